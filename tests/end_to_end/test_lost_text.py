"""A tokenizer that loses text says so wherever its figures stand."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pytest
from harness import Project, Result
from tokens.designs import Design

SETTINGS = ("tokenizer={type: pretrained, pretrained: theirs}", "run.name=lossy")
LOSES = r"the tokenizer loses text: [\d,]+ of [\d,]+ {} documents do not come back from their tokens \(at least [\d,]+"


@dataclass(frozen=True)
class Lossy:
    """The tiny project with a second run, `lossy`, whose tokenizer loses text: what its plan and its run printed."""

    project: Project
    planned: Result
    done: Result


@pytest.fixture(scope="module")
def lossy(finished_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Lossy:
    project = finished_once.copy(tmp_path_factory.mktemp("lost_text") / "project")
    Design("WordPiece", "bert", template="cls and sep", has_eos=False).write(project.folder / "theirs")
    planned, done = (project.descent(verb, "tiny.yaml", *SETTINGS) for verb in ("plan", "run"))
    assert done.code == 0, done.err
    return Lossy(project, planned, done)


def test_everywhere(lossy: Lossy) -> None:
    project, done = lossy.project, lossy.done
    foretold = "warning: tokenizer: the tokenizer may lose text (normalizer BertNormalizer, WordPiece"
    assert foretold in lossy.planned.out
    for stage, documents in (("tokenizer", "sampled training"), ("encode", "validation"), ("encode", "test")):
        assert re.search(f"^{stage}: warning: {LOSES.format(documents)}", done.err, re.MULTILINE), done.err
    result = r"[\d.]+ perplexity( \([\d.]+ to [\d.]+\))? \(no bits per byte: its tokenizer loses text\)"
    assert re.search(f"^result +{result}; (healthy|note|warning|critical)", done.out, re.MULTILINE)

    key = json.loads((project.workspace / "runs/lossy/run.json").read_text())["stages"]["evaluate"]["key"]
    evaluation = json.loads((project.workspace / "artifacts/evaluate" / key / "evaluation.json").read_text())
    assert re.match(LOSES.format("test"), evaluation["withheld"]["bits_per_byte"])
    assert evaluation["baselines"] == {}
    assert evaluation["test"]["perplexity"] > 1
    run = project.workspace / "runs/lossy"
    assert "bits_per_byte" not in json.dumps({**evaluation, "withheld": {}}) + (run / "metrics.jsonl").read_text()

    again = project.descent("plan", "tiny.yaml", *SETTINGS)
    assert re.search(f"^warning: encode: {LOSES.format('test')}", again.out, re.MULTILINE)
    warned = [stage for stage, step in project.plan(*SETTINGS).items() if step["warnings"]]
    assert {"tokenizer", "encode", "evaluate"} <= {*warned}
    assert re.search(f"{result} after 24 steps", project.descent("status", "tiny.yaml").out)

    for name in ("report.html", "model/README.md"):
        text = (run / name).read_text()
        assert re.search(LOSES.format("test"), text)
        assert "bits per byte" not in re.sub("no bits per byte", "", text)
        assert not re.search(r"\bxz -9\b", text)


def test_the_card_of_a_tokenizer_that_ends_texts_can_be_typed(lossy: Lossy) -> None:
    folder = lossy.project.workspace / "runs/lossy/model"
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    code = code.replace("path/to/this/folder", str(folder))
    names: dict = {}
    exec(code, names)
    tokenizer, inputs = names["tokenizer"], names["inputs"]
    assert inputs["input_ids"][0, 0] == tokenizer.cls_token_id
    assert tokenizer.sep_token_id not in inputs["input_ids"]


def test_a_comparison_with_another_tokenizer_compares_no_bits(lossy: Lossy) -> None:
    project = lossy.project
    found = json.loads(project.descent("diff", "tiny.yaml", "lossy", "tiny", "--json").out)["evaluation"]
    assert not any(figure["best"] is not None for figure in found["measures"].values())
    text = project.descent("diff", "tiny.yaml", "lossy", "tiny").out
    assert "that of lossy loses text" in " ".join(text.split())
    assert "compare bits per byte" not in text
