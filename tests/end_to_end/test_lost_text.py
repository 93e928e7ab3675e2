"""A tokenizer that loses text says so wherever its figures stand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from harness import TINY, Project, write_sources
from tokens.designs import Design

SETTING = "tokenizer={type: pretrained, pretrained: theirs}"
LOSES = r"the tokenizer loses text: [\d,]+ of [\d,]+ {} documents do not come back from their tokens \(at least [\d,]+"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("lost_text"))
    write_sources(project.folder)
    (project.folder / "tiny.yaml").write_text(TINY)
    Design("WordPiece", "bert", template="cls and sep", has_eos=False).write(project.folder / "theirs")
    return project


def test_everywhere(project: Project) -> None:
    planned = project.descent("plan", "tiny.yaml", SETTING)
    assert "warning: tokenizer: the tokenizer may lose text (normalizer BertNormalizer, WordPiece" in planned.out

    done = project.descent("run", "tiny.yaml", SETTING)
    assert done.code == 0, done.err
    for stage, documents in (("tokenizer", "sampled training"), ("encode", "validation"), ("encode", "test")):
        assert re.search(f"^{stage}: warning: {LOSES.format(documents)}", done.err, re.MULTILINE), done.err
    result = r"[\d.]+ perplexity \(no bits per byte: its tokenizer loses text\)"
    assert re.search(f"^result +{result}; gradients", done.out, re.MULTILINE)

    evaluation = json.loads((project.artifact("evaluate") / "evaluation.json").read_text())
    assert re.match(LOSES.format("test"), evaluation["withheld"]["bits_per_byte"])
    assert evaluation["baselines"] == {}
    assert evaluation["test"]["perplexity"] > 1
    run = project.workspace / "runs/tiny"
    assert "bits_per_byte" not in json.dumps({**evaluation, "withheld": {}}) + (run / "metrics.jsonl").read_text()

    again = project.descent("plan", "tiny.yaml", SETTING)
    assert re.search(f"^warning: encode: {LOSES.format('test')}", again.out, re.MULTILINE)
    warned = [stage for stage, step in project.plan(SETTING).items() if step["warnings"]]
    assert {"tokenizer", "encode", "evaluate"} <= {*warned}
    assert re.search(f"{result} after 24 steps", project.descent("status", "tiny.yaml").out)

    for name in ("report.html", "model/README.md"):
        text = (run / name).read_text()
        assert re.search(LOSES.format("test"), text)
        assert "bits per byte" not in re.sub("no bits per byte", "", text)
        assert not re.search(r"\bxz -9\b", text)


def test_the_card_of_a_tokenizer_that_ends_texts_can_be_typed(project: Project, tmp_path: Path) -> None:
    card = (project.workspace / "runs/tiny/model/README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    code = code.replace("path/to/this/folder", str(project.workspace / "runs/tiny/model"))
    names: dict = {}
    exec(code, names)
    tokenizer, inputs = names["tokenizer"], names["inputs"]
    assert inputs["input_ids"][0, 0] == tokenizer.cls_token_id
    assert tokenizer.sep_token_id not in inputs["input_ids"]


def test_a_comparison_with_another_tokenizer_compares_no_bits(project: Project) -> None:
    whole = project.descent("run", "tiny.yaml", "run.name=whole")
    assert whole.code == 0, whole.err
    found = json.loads(project.descent("diff", "tiny.yaml", "tiny", "whole", "--json").out)["evaluation"]
    assert not any(figure["best"] is not None for figure in found["measures"].values())
    text = project.descent("diff", "tiny.yaml", "tiny", "whole").out
    assert "that of tiny loses text" in " ".join(text.split())
    assert "compare bits per byte" not in text
