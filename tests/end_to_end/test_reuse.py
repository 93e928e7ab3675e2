"""Nothing is stale and nothing is redone: what a change of source, setting or artifact causes to run."""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import time
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from corpus_values import split_of_hash
from harness import PATIENCE_SECONDS, STAGES, Project, select

from pipeline.config.loading import load_config
from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.document_shards import read_documents
from pipeline.corpus.repeats import text_hash
from pipeline.engine import runner
from pipeline.errors import BadDataError, ConfigError
from pipeline.stages import ingest

ALL_REUSED = dict.fromkeys(STAGES, "reuse")


def test_a_second_run_reuses_all_stages_without_torch(finished_once: Project, without_torch) -> None:
    result = without_torch(finished_once, ["run", "tiny.yaml"])
    assert result.code == 0, result.err
    assert result.out.count(" reuse ") == len(STAGES)
    assert "started" not in result.err


def test_a_plan_says_what_the_stages_that_run_again_took_last_time(finished_once: Project) -> None:
    seconds = {
        stage: json.loads((finished_once.artifact(stage) / "manifest.json").read_text())["seconds"] for stage in STAGES
    }
    steps = json.loads(finished_once.descent("plan", "tiny.yaml", "train.learning_rate=0.5", "--json").out)
    again = {step["stage"]: step["last_seconds"] for step in steps if step["last_seconds"] is not None}
    assert again == {stage: seconds[stage] for stage in ("train", "evaluate", "report")}
    told = finished_once.descent("plan", "tiny.yaml", "train.learning_rate=0.5").out
    assert f"last time in this run: train {seconds['train']:.0f}s, evaluate {seconds['evaluate']:.0f}s, report" in told
    for settings in ((), ("run.name=another", "train.learning_rate=0.5")):
        assert "last time" not in finished_once.descent("plan", "tiny.yaml", *settings).out


@pytest.mark.parametrize(
    "arguments", [["plan", "tiny.yaml"], ["status", "tiny.yaml"], ["--help"], ["plan", "tiny.yaml", "a.b=1"]]
)
def test_light_verbs_do_not_import_torch(finished_once: Project, without_torch, arguments: list[str]) -> None:
    result = without_torch(finished_once, arguments)
    assert "imported" not in result.err
    assert result.code == (78 if "a.b=1" in arguments else 0)


def test_a_seed_reruns_what_draws_and_nothing_else(finished: Project) -> None:
    """Of the stages before the model, that of altered copies draws, where it makes any."""
    drawing = finished.plan("run.seed=8")
    assert (drawing["augment"]["action"], drawing["augment"]["reasons"]) == ("run", ["run.seed 7 -> 8"])
    assert [drawing[stage]["action"] for stage in STAGES[:3]] == ["reuse"] * 3
    plain = ("augment.fraction=0", "augment.operations=[]")
    data = STAGES[: STAGES.index("model")]
    finished.run(*plain, "--until", "model")
    actions = finished.actions(*plain, "run.seed=8")
    assert {stage: actions[stage] for stage in (*data, "model")} == dict.fromkeys(data, "reuse") | {"model": "run"}


def test_touching_a_source_changes_nothing(finished: Project) -> None:
    for path in [*finished.folder.glob("texts/*"), finished.folder / "records.jsonl"]:
        os.utime(path, (time.time(), time.time()))
    assert finished.actions() == ALL_REUSED


def test_one_changed_byte_reruns_what_depends_on_it(finished: Project) -> None:
    path = finished.folder / "texts" / "argparse.txt"
    before = path.read_bytes()
    position = before.index(b"parser")
    path.write_bytes(before[:position] + b"q" + before[position + 1 :])
    assert path.stat().st_size == len(before)
    plan = finished.plan()
    assert plan["ingest"]["action"] == "run"
    assert plan["ingest"]["reasons"] == ["source texts/argparse.txt changed"]
    assert {step["action"] for stage, step in plan.items() if stage != "ingest"} == {"unknown"}
    outcomes = finished.run()
    # The vocabulary may come out the same in spite of the byte; then the model is reused as well.
    assert {stage for stage, outcome in outcomes.items() if outcome == "reused"} <= {"model"}


def test_a_changed_byte_of_a_test_document_does_not_train_again(finished: Project) -> None:
    curate = CurateConfig(validation_fraction=0.1, test_fraction=0.1)
    document = next(d for d in read_documents(finished.artifact("curate") / "test") if d.source == "stories")
    altered = next(
        text
        for position in range(len(document.text))
        if document.text[position].islower()
        and split_of_hash(text_hash(text := f"{document.text[:position]}z{document.text[position + 1 :]}"), curate)
        == "test"
    )
    path = finished.folder / document.origin.partition("#")[0]
    content = path.read_text()
    assert content.count(document.text) == 1
    path.write_text(content.replace(document.text, altered))
    outcomes = finished.run()
    reused = {stage for stage, outcome in outcomes.items() if outcome == "reused"}
    assert reused == {"augment", "tokenizer", "model", "train"}


def test_learning_rate_reruns_training_and_what_follows(finished: Project) -> None:
    plan = finished.plan("train.learning_rate=0.003")
    assert [stage for stage, step in plan.items() if step["action"] != "reuse"] == ["train", "evaluate", "report"]
    assert plan["train"]["reasons"] == ["train.learning_rate 0.005 -> 0.003"]
    outcomes = finished.run("train.learning_rate=0.003")
    assert [stage for stage, outcome in outcomes.items() if outcome == "built"] == ["train", "evaluate", "report"]


def test_runtime_fields_change_nothing(finished: Project) -> None:
    settings = [
        "run.num_workers=1",
        "train.logging_steps=1",
        "train.save_steps=7",
        "train.per_device_train_batch_size=2",
    ]
    assert finished.actions(*settings) == ALL_REUSED


def test_an_option_that_changes_no_document_stops_there(finished: Project) -> None:
    steps = "normalize.steps=[{type: fix_unicode}, {type: strip_control_characters}, {type: collapse_whitespace}]"
    plan = finished.plan(steps)
    assert plan["normalize"]["reasons"] == ["normalize.steps.1 (unicode_form) removed"]
    outcomes = finished.run(steps)
    assert [stage for stage, outcome in outcomes.items() if outcome == "built"] == ["normalize"]


def test_a_new_block_size_encodes_nothing_again(finished: Project) -> None:
    outcomes = finished.run("pack.block_size=16", "--until", "model")
    assert [stage for stage, outcome in outcomes.items() if outcome == "built"] == ["pack"]


def test_a_file_of_another_size_is_found_and_rebuilt(finished: Project) -> None:
    before = finished.digests()
    path = next((finished.artifact("encode") / "train").glob("*.ds"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-2])
    step = finished.plan()["encode"]
    assert step["action"] == "run"
    assert "stream.ds" in step["reasons"][0]
    outcomes = finished.run()
    assert [stage for stage, outcome in outcomes.items() if outcome == "built"] == ["encode"]
    assert finished.digests() == before


def test_force_rebuilds_keeps_the_old_and_compares(finished: Project) -> None:
    result = finished.descent("run", "tiny.yaml", "--force", "curate", "--force", "train")
    assert result.code == 0, result.err
    assert result.err.count("the digests agree") == 2
    stages = finished.state()["stages"]
    assert [stage for stage in STAGES if stages[stage]["outcome"] == "built"] == ["curate", "train"]
    assert len(list((finished.workspace / "artifacts" / "curate").glob("aside-*"))) == 1
    view = finished.workspace / "runs" / "tiny"
    assert (view / "tensorboard").resolve() == (finished.artifact("train") / "tensorboard").resolve()
    assert filecmp.cmp(view / "model/config.json", finished.artifact("train") / "model/config.json", shallow=False)


def test_a_view_never_mixes_two_trainings(finished: Project) -> None:
    """It is that of a part of a run only as long as there is no whole one."""
    view = finished.workspace / "runs" / "tiny"
    earlier = finished.artifact("train")
    finished.run("train.learning_rate=0.003", "--until", "train")
    assert set(finished.state()["stages"]) == set(STAGES) - {"evaluate", "report"}
    weights = "model/model.safetensors"
    assert filecmp.cmp(view / weights, earlier / weights, shallow=False)
    assert (view / "report.html").exists()
    finished.run("train.learning_rate=0.003", "run.name=other", "--until", "train")
    other = finished.workspace / "runs" / "other"
    assert (other / weights).samefile(finished.artifact("train") / weights)
    assert not (other / "model/README.md").exists()
    assert not (other / "report.html").exists()
    finished.run("train.learning_rate=0.003")
    assert (view / weights).samefile(other / weights)
    assert "0.003" in (view / "model/README.md").read_text()


def test_running_a_part_keeps_what_still_fits(finished: Project) -> None:
    finished.run("--only", "ingest")
    assert set(finished.state()["stages"]) == set(STAGES)


def test_run_json_tells_a_failure_before_the_first_stage(finished: Project) -> None:
    (finished.folder / "records.jsonl").unlink()
    assert finished.descent("run", "tiny.yaml").code == 66
    state = finished.state()
    assert (state["outcome"], state["exit_code"]) == ("failed", 66)
    assert "records.jsonl" in state["message"]
    assert set(state["earlier"]) == set(STAGES)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("max_position_embeddings=16", "pack.block_size 32 is more than the model's 16 positions; lower it, or raise "),
        ("hidden_siz=32", r"model\.config\.hidden_siz: llama has no such setting; did you mean hidden_size"),
        (
            "hidden_size=33",
            "model.config: llama refuses these values: ValueError: The hidden size .*not a multiple of",
        ),
    ],
)
def test_a_model_that_cannot_be_is_refused_before_any_data_work(
    finished: Project, monkeypatch: pytest.MonkeyPatch, setting: str, problem: str
) -> None:
    monkeypatch.chdir(finished.folder)
    finished.forget_from("ingest")
    config = load_config(Path("tiny.yaml"), [f"model.config.{setting}"])
    with pytest.raises(ConfigError, match=problem):
        runner.run(config, select())
    assert not (finished.workspace / "artifacts/ingest").exists()


def test_a_source_changed_while_it_is_read_is_not_taken_for_its_old_self(
    finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)
    config = load_config(Path("tiny.yaml"), ["ingest.max_rejected_fraction=0.5"])
    write = ingest._gather

    def edit_and_write(*arguments: Any) -> None:
        write(*arguments)
        with Path("records.jsonl").open("a") as file:
            file.write('{"body": "one more record"}\n')

    monkeypatch.setattr(ingest, "_gather", edit_and_write)
    with pytest.raises(BadDataError, match=r"ingest: source records\.jsonl changed while it was read; run again"):
        runner.run(config, select(only="ingest"))
    assert finished.state()["outcome"] == "failed"


@pytest.mark.parametrize(
    "content", ["", "[]", '{"a": 1}', '{"name": "x", "outcome": "done", "started": 1, "stages": 3}']
)
def test_a_broken_run_json_is_taken_for_none(finished: Project, content: str) -> None:
    (finished.workspace / "runs/tiny/run.json").write_text(content)
    assert finished.descent("status", "tiny.yaml").code == 0
    assert set(finished.run().values()) == {"reused"}


def test_runs_of_one_name_take_turns(finished: Project) -> None:
    finished.forget_from("pack")
    processes = [
        subprocess.Popen(finished.command("run", "tiny.yaml"), cwd=finished.folder, stdout=PIPE, stderr=PIPE, text=True)
        for _ in range(3)
    ]
    errors = [process.communicate(timeout=PATIENCE_SECONDS)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert sum(text.count("pack: started") for text in errors) == 1
    assert sum(text.count("train: started") for text in errors) == 1
    # Who has only just begun may not have written its name yet: then it is "another process".
    assert any("run: waiting for " in text for text in errors)


def test_missing_upstream_is_named(finished: Project) -> None:
    finished.forget_from("pack")
    for selection in (["--only", "train"], ["--from", "model"]):
        result = finished.descent("run", "tiny.yaml", *selection)
        assert result.code == 66
        assert result.err.startswith("descent: pack: its artifact is needed")
        assert len(result.err.splitlines()) == 1
    assert finished.descent("run", "tiny.yaml", "--until", "pack").code == 0
    assert finished.descent("run", "tiny.yaml", "--only", "model").code == 0


def test_plan_and_run_agree(finished: Project) -> None:
    settings = ["tokenizer.vocab_size=390", "--until", "pack"]
    planned = finished.actions(*settings)
    outcomes = finished.run(*settings)
    for stage, action in planned.items():
        if action != "unknown":
            assert outcomes[stage] == {"reuse": "reused", "run": "built"}[action]
