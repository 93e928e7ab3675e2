from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import evaluate
import pytest
from harness import PATIENCE_SECONDS

from pipeline.evaluation.evaluate_config import METRICS_OF_TASK
from pipeline.evaluation.scores import METRICS_FOLDER, Totals, load_metric, score

PARTS = [Totals(nll=30.0, tokens=10, correct=4, bytes=35, documents=2), Totals(12.0, 4, 1, 13, 1)]


def test_scores_by_hand() -> None:
    scores = score(PARTS, ["perplexity", "bits_per_byte", "token_accuracy"])
    assert scores == {
        "loss": 3.0,
        "perplexity": pytest.approx(math.exp(3.0), rel=1e-15),
        "bits_per_byte": pytest.approx(42 / math.log(2) / 48, rel=1e-15),
        "token_accuracy": 5 / 14,
        "tokens": 14,
        "bytes": 48,
        "documents": 3,
    }


def test_the_loss_is_there_whatever_is_asked_for() -> None:
    assert list(score(PARTS, ["token_accuracy"])) == [
        "loss",
        "token_accuracy",
        "tokens",
        "bytes",
        "documents",
    ]


def test_a_hopeless_perplexity_is_still_a_number() -> None:
    assert math.isfinite(score([Totals(5000.0, 1, 0, 1, 1)], ["perplexity"])["perplexity"])


def test_every_metric_is_an_evaluate_module_that_adds_batches() -> None:
    names = {path.stem for path in METRICS_FOLDER.glob("*.py")} - {"__init__"}
    assert names == {name for metrics in METRICS_OF_TASK.values() for name in metrics}
    for name in names:
        module = load_metric(name)
        assert isinstance(module, evaluate.Metric)
        assert name in module.description.lower().replace(" ", "_")
        columns = list(module.features)
        module.add_batch(**{column: [2, 4] for column in columns})
        module.add_batch(**{column: [3] for column in columns})
        in_batches = module.compute()
        assert in_batches == load_metric(name).compute(**{column: [2, 4, 3] for column in columns})


PROGRAM = """
import os, socket
def refuse(*arguments): raise SystemExit("asked the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from pipeline.evaluation.scores import Totals, _process_folder, score
for _ in range(3):
    print(score([Totals(30.0, 10, 4, 35, 2)], ["perplexity", "bits_per_byte", "token_accuracy"])["loss"])
print(_process_folder())
"""


def test_it_needs_no_home_and_no_network_and_minds_no_other_process(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file, below which nobody can write")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = set()
    for process in processes:
        out, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        *losses, folder = out.split()
        assert losses == ["3.0"] * 3
        assert not Path(folder).exists()
        folders.add(folder)
    assert len(folders) == 2
