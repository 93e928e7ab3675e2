"""What a finished run leaves works elsewhere: the model without this project, the view, the report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import STAGES, TINY, Project, Result, tells
from reporting.test_hparams import table
from typer.testing import CliRunner

from pipeline.cli import app

USE_MODEL = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
inputs = tokenizer("Return the", return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=5, do_sample=False)
assert output.shape[1] == inputs["input_ids"].shape[1] + 5
assert tokenizer.decode(output[0]).startswith("Return the")
assert "pipeline" not in sys.modules
"""


def test_the_exported_model_works_without_this_project(finished_once: Project, tmp_path: Path) -> None:
    model = finished_once.workspace / "runs" / "tiny" / "model"
    done = subprocess.run(
        [sys.executable, "-I", "-c", USE_MODEL, str(model)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (model / "README.md").read_text().startswith("---\n")


def test_a_run_ends_with_its_result(finished_once: Project) -> None:
    out = finished_once.descent("run", "tiny.yaml").out
    names = ("before_training", "unigram", "bigram", "xz", "xz_primed")
    others = ", ".join(rf"{name} \d+\.\d{{3}}" for name in names)
    figures = rf"\d\.\d{{3}} bits per byte( \(\d\.\d{{3}} to \d\.\d{{3}}\))?; {others}; (healthy|note|warn|crit).*"
    assert re.search(f"^result +{figures}$", out, re.MULTILINE)


def test_settings_of_samples_and_the_seed_count_for_generate(
    finished_once: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished_once.folder)

    def generate(*arguments: str) -> Result:
        done = CliRunner().invoke(app, ["generate", "tiny.yaml", "--prompt", "Return the", *arguments])
        return Result(done.exit_code, done.stdout, done.stderr)

    likeliest = generate("--temperature", "0", "--max-new-tokens", "3").out
    assert generate("evaluate.samples={temperature: 0, max_new_tokens: 3}").out == likeliest
    assert generate("evaluate.samples={temperature: 0, max_new_tokens: 30}", "--max-new-tokens", "3").out == likeliest
    assert generate("run.seed=3").out == generate("--seed", "3").out != generate("run.seed=4").out
    other = generate("train.learning_rate=0.25", "train.max_steps=24", "model.config.hidden_size=64", "--seed", "3")
    assert other.out == generate("--seed", "3").out
    assert other.err.splitlines() == [
        f"descent: note: the model of run tiny was made with {setting}; descent run makes another"
        for setting in ("model.config.hidden_size 32", "train.learning_rate 0.005")
    ]


def test_the_view_is_complete(finished_once: Project) -> None:
    view = finished_once.workspace / "runs" / "tiny"
    assert {"config.yaml", "run.json", "metrics.jsonl", "tensorboard", "model", "report.html"} <= {
        p.name for p in view.iterdir()
    }
    assert finished_once.state()["outcome"] == "done"
    assert list(finished_once.state()["stages"]) == list(STAGES)
    steps = [json.loads(line) for line in (view / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "train/loss" in line] == [4, 8, 12, 16, 20, 24]
    assert any(path.name.startswith("events.out.tfevents") for path in (view / "tensorboard").rglob("*"))


def test_the_report_tells_apart_what_was_given(finished_once: Project) -> None:
    page = (finished_once.workspace / "runs/tiny/report.html").read_text()
    begin = page.index("Given in the configuration</h3>")
    apart = page[begin : page.index("<details>", begin)]
    expected = {"run.seed"}

    def walk(value: Any, key: str) -> None:
        nested = isinstance(value, list) and any(isinstance(item, dict) for item in value)
        items = value.items() if isinstance(value, dict) else enumerate(value) if nested else ()
        for name, item in items:
            walk(item, f"{key}.{name}" if key else str(name))
        if not items:
            expected.add(key)

    walk({name: section for name, section in yaml.safe_load(TINY).items() if name != "run"}, "")
    assert set(re.findall("<dt>(.*?)</dt>", apart)) == expected


def test_tensorboard_has_a_row_with_settings_and_results(finished: Project) -> None:
    """One more run that evaluates otherwise has a row of its own, with the same training."""
    assert finished.descent("run", "tiny.yaml", "run.name=strided", "evaluate.stride=8").code == 0
    runs = finished.workspace / "runs"
    settings, differs, results = table(runs)
    assert settings.keys() == results.keys() == {"tiny/hparams", "strided/hparams"}
    assert {name for name, is_other in differs.items() if is_other} == {"run.name"}
    assert settings["strided/hparams"]["evaluate.stride"] == 8
    for name in ("tiny", "strided"):
        state = json.loads((runs / name / "run.json").read_text())["stages"]
        train, evaluate = (
            json.loads((finished.workspace / "artifacts" / stage / state[stage]["key"] / "manifest.json").read_text())
            for stage in ("train", "evaluate")
        )
        found = results[f"{name}/hparams"]
        measured = evaluate["summary"]["test"]
        expected = {
            f"test/{key}": measured[key]
            for key in ("loss", "perplexity", "bits_per_byte", "token_accuracy", "top_5_accuracy")
        }
        expected |= {f"final/{key}_loss": train["summary"][f"{of}_loss"] for key, of in
                     (("train", "final"), ("eval", "eval"))}  # fmt: skip
        assert found.pop("health/worst") in (0, 1, 2, 3)
        assert found == pytest.approx(expected | {"final/steps": 24}, rel=1e-6)  # as float32
    [before] = (runs / "tiny/hparams").iterdir()
    assert finished.descent("run", "tiny.yaml").code == 0
    assert list((runs / "tiny/hparams").iterdir()) == [before]


def test_the_resolved_configuration_repeats_the_run(finished_once: Project, without_torch) -> None:
    result = without_torch(finished_once, ["run", "workspace/runs/tiny/config.yaml"])
    assert result.code == 0, result.err
    assert result.out.count(" reuse ") == len(STAGES)


def test_the_model_learns_and_is_measured(finished_once: Project) -> None:
    evaluation = json.loads((finished_once.artifact("evaluate") / "evaluation.json").read_text())
    assert set(evaluation["sources"]) == {"stories", "records"}
    assert 0 < evaluation["test"]["bits_per_byte"] < 8
    assert evaluation["baselines"].keys() >= {"unigram", "xz", "xz_primed"}
    losses = [
        json.loads(line)["train/loss"]
        for line in (finished_once.artifact("train") / "metrics.jsonl").read_text().splitlines()
        if "train/loss" in line
    ]
    assert losses[-1] < losses[0]


def test_the_report_is_one_offline_file(finished_once: Project) -> None:
    html = (finished_once.workspace / "runs" / "tiny" / "report.html").read_text()
    assert "http://" not in html.replace("http://www.w3.org/", "")
    assert "<script src" not in html
    for stage in STAGES:
        assert stage in html


def test_generate_continues_prompts_the_same_for_the_same_seed(finished_once: Project) -> None:
    arguments = ["generate", "tiny.yaml", "--prompt", "Return the", "--max-new-tokens", "8"]
    first = finished_once.descent(*arguments)
    assert first.code == 0, first.err
    assert first.out.startswith("Return the")
    assert finished_once.descent(*arguments).out == first.out
    missing = finished_once.descent("generate", "tiny.yaml", "run.name=other")
    assert missing.code == 66
    assert tells(missing.err, "workspace/runs/other/model", "no model yet", "descent run tiny.yaml")
