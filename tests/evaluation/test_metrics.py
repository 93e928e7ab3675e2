"""Metrics against their definitions, written out."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import PATIENCE_SECONDS
from pydantic import ValidationError

from pipeline.errors import ConfigError
from pipeline.evaluation.evaluate_config import EvaluateConfig
from pipeline.evaluation.metrics import METRICS, LabelMetric, Totals
from pipeline.evaluation.metrics.evaluate_module import EvaluateModule
from pipeline.evaluation.scores import score, score_predictions
from pipeline.features import files_of_key
from pipeline.stages.evaluate import main_result
from pipeline.tasks.causal_lm import CausalLm
from pipeline.tasks.classification import Classification
from pipeline.tasks.regression import Regression

PARTS = np.array([astuple(Totals(nll=30.0, tokens=10, correct=4, bytes=35, documents=2)), (12.0, 4, 1, 13, 1, 0, 0)])
TEXT = {metric.key: metric for metric in CausalLm.metrics}


def test_scores_of_text_by_hand() -> None:
    scores = score(PARTS, [TEXT["perplexity"], TEXT["bits_per_byte"], TEXT["token_accuracy"]])
    assert scores == {
        "loss": 3.0,
        "perplexity": pytest.approx(math.exp(3.0), rel=1e-15),
        "bits_per_byte": pytest.approx(42 / math.log(2) / 48, rel=1e-15),
        "token_accuracy": 5 / 14,
        "tokens": 14,
        "bytes": 48,
        "documents": 3,
        "intervals": {},
    }
    keys = ["loss", "token_accuracy", "tokens", "bytes", "documents", "intervals"]
    assert list(score(PARTS, [TEXT["token_accuracy"]])) == keys


def test_bits_beside_the_tokens_are_charged() -> None:
    with_bits = Totals(nll=30.0, tokens=10, correct=4, bytes=35, documents=2, charged_bits=2)
    found = score(np.array([astuple(with_bits)]), [TEXT["bits_per_byte"]])["bits_per_byte"]
    assert found == pytest.approx((30 / math.log(2) + 2) / 35, rel=1e-15)


def one_row(loss: float) -> torch.Tensor:
    return torch.tensor([loss, 1, 0, loss**2, loss, 1], dtype=torch.float64)


def test_a_perplexity_that_no_number_holds_is_not_given() -> None:
    rows = np.array([[5000.0, 1, 0, 1, 1, 0, 0]])
    assert score(rows, [TEXT["perplexity"]])["perplexity"] is None
    assert score(rows * 10, [TEXT["perplexity"]])["loss"] == 5000
    assert CausalLm().validation_means(one_row(701.0)) == {"loss": 701, "loss_error": 0}
    assert CausalLm().validation_means(one_row(699.0))["perplexity"] == math.exp(699)
    withheld = {"task": "causal_lm", "test": {"perplexity": None}, "withheld": {"bits_per_byte": "lost"}}
    assert main_result(withheld) == "perplexity beyond all numbers (no bits per byte: its tokenizer loses text)"


def f1_by_definition(predictions: list[int], references: list[int]) -> float:
    """scikit-learn's `f1_score(average="macro", zero_division=0)`: precision and recall of each class that occurs."""
    scores = []
    for label in {*predictions, *references}:
        hits = sum(p == r == label for p, r in zip(predictions, references, strict=True))
        precision = hits / predictions.count(label) if label in predictions else 0.0
        recall = hits / references.count(label) if label in references else 0.0
        scores.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    return sum(scores) / len(scores)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_classes_are_their_definitions(seed: int) -> None:
    draw = np.random.default_rng(seed)
    predictions, references = draw.integers(0, 5, 40), draw.integers(0, 4, 40)  # class 4 is never true
    found = score_predictions(predictions, references, Classification.metrics)
    right = sum(p == r for p, r in zip(predictions.tolist(), references.tolist(), strict=True))
    assert found["accuracy"] == right / 40
    assert found["f1_macro"] == pytest.approx(f1_by_definition(predictions.tolist(), references.tolist()), rel=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_numbers_are_their_definitions(seed: int) -> None:
    draw = np.random.default_rng(seed)
    references = draw.normal(3, 2, 30)
    predictions = 0.5 * references + draw.normal(size=30)
    found = score_predictions(predictions, references, Regression.metrics)
    pairs = list(zip(predictions.tolist(), references.tolist(), strict=True))
    mean = sum(references.tolist()) / 30
    squared = sum((p - r) ** 2 for p, r in pairs)
    assert found["mse"] == pytest.approx(squared / 30, rel=1e-13)
    assert found["mae"] == pytest.approx(sum(abs(p - r) for p, r in pairs) / 30, rel=1e-13)
    assert found["r2"] == pytest.approx(1 - squared / sum((r - mean) ** 2 for _, r in pairs), rel=1e-12)
    assert found["pearson"] == pytest.approx(np.corrcoef(predictions, references)[0, 1], rel=1e-12)


def test_what_is_not_defined_is_none() -> None:
    found = score_predictions(np.array([1.0, 2.0]), np.array([3.0, 3.0]), Regression.metrics)
    assert (found["r2"], found["pearson"]) == (None, None)


def test_names_and_mappings_are_one_list() -> None:
    script = {"type": "evaluate", "path": "./hits.py", "arguments": {"scale": 2}}
    config = EvaluateConfig(metrics=["accuracy", {"type": "f1_macro"}, script])
    assert [metric.key for metric in config.metrics or ()] == ["accuracy", "f1_macro", "hits"]
    assert config.of_key()["metrics"] == ["accuracy", "f1_macro", script], "as before metrics had settings"
    assert EvaluateConfig.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(ValidationError, match="accurac"):
        EvaluateConfig(metrics=["accurac"])


def test_every_metric_says_what_it_measures_and_has_a_name_of_its_own() -> None:
    names = [kind.model_fields["type"].default for kind in METRICS]
    assert len({*names}) == len(names)
    assert all({*kind.measures} <= {"tokens", "classes", "numbers"} for kind in METRICS)


SCRIPT = """
import datasets
import evaluate


class Hits(evaluate.Metric):
    def _info(self):
        number = datasets.Value("int64")
        features = datasets.Features({"predictions": number, "references": number})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references, scale=1):
        hits = sum(p == r for p, r in zip(predictions, references))
        return {"hits": scale * hits, "misses": len(predictions) - hits}
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "hits.py"
    path.write_text(SCRIPT)
    return path


def computed(**settings: Any) -> float | None:
    metric: LabelMetric = EvaluateModule(**settings)
    return metric.compute(np.array([0, 1, 1]), np.array([0, 1, 2]))


def test_a_metric_of_the_evaluate_library_is_computed_by_its_script(script: Path) -> None:
    assert computed(path=str(script), figure_name="hits") == 2
    assert computed(path=str(script), figure_name="hits", arguments={"scale": 10}) == 20
    assert computed(path=str(script), figure_name="misses") == 1
    assert files_of_key([EvaluateModule(path=str(script))]) == {str(script): [script]}
    with pytest.raises(ConfigError, match="gives hits, misses; choose one by figure_name"):
        computed(path=str(script))
    with pytest.raises(ConfigError, match=r"hits\.py fails: TypeError: .*other.*; mend it or remove it"):
        computed(path=str(script), figure_name="hits", arguments={"other": 1})


def test_metrics_of_several_scripts_are_computed_in_one_process(tmp_path: Path, script: Path) -> None:
    twice, beside = tmp_path / "twice.py", tmp_path / "folder/hits.py"
    beside.parent.mkdir()
    for path in (twice, beside):
        path.write_text(SCRIPT.replace("scale=1", "scale=2"))
    assert [computed(path=str(path), figure_name="hits") for path in (script, twice, beside)] == [2, 4, 4]


@pytest.mark.parametrize("value", ["[hits, 1]", "np.array([hits, 1])", "None", "{'of 1': hits}"])
def test_what_is_no_number_is_told_in_one_line(script: Path, value: str) -> None:
    script.write_text("import numpy as np\n" + SCRIPT.replace("scale * hits", value))
    with pytest.raises(ConfigError, match=r"hits\.py fails: TypeError: .*; mend it or remove it"):
        computed(path=str(script), figure_name="hits")


def test_a_metric_of_the_hub_needs_a_commit() -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.metrics: nowhere is no file or folder here; .* `revision`"):
        files_of_key([EvaluateModule(path="nowhere")])
    assert files_of_key([EvaluateModule(path="nowhere", revision="a" * 40)]) == {}
    with pytest.raises(ValidationError, match="pattern"):
        EvaluateModule(path="nowhere", revision="main")


PROGRAM = """
import os, socket, sys
def refuse(*arguments): raise SystemExit("asked the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import numpy as np
from pipeline.evaluation.metrics.evaluate_module import EvaluateModule
metric = EvaluateModule(path=sys.argv[1], figure_name="hits")
for _ in range(3):
    print(metric.compute(np.array([0, 1]), np.array([0, 1])))
"""


def test_it_needs_no_home_and_no_network_and_minds_no_other_process(tmp_path: Path, script: Path) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.write_text("a file, below which nobody can write")
    scratch.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    environment |= {"HOME": str(home), "TMPDIR": str(scratch), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", PROGRAM, str(script)]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        out, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        assert out.split() == ["2.0"] * 3
    assert list(scratch.glob("descent-metrics-*")) == []
