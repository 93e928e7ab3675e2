"""Nothing is stale and nothing is redone: what a change of source, setting or artifact causes to run."""

from __future__ import annotations

import os
import time

import pytest
from harness import STAGES, Project

from pipeline.config.corpus import CurateConfig
from pipeline.corpus.documents import read_documents
from pipeline.corpus.splitting import split_of

ALL_REUSED = dict.fromkeys(STAGES, "reuse")


def test_a_second_run_reuses_all_stages_without_torch(finished_once: Project, without_torch) -> None:
    result = without_torch(finished_once, ["run", "tiny.yaml"])
    assert result.code == 0, result.err
    assert result.out.count(" reuse ") == len(STAGES)
    assert "started" not in result.err


@pytest.mark.parametrize(
    "arguments", [["plan", "tiny.yaml"], ["status", "tiny.yaml"], ["--help"], ["plan", "tiny.yaml", "a.b=1"]]
)
def test_light_verbs_do_not_import_torch(finished_once: Project, without_torch, arguments: list[str]) -> None:
    result = without_torch(finished_once, arguments)
    assert "imported" not in result.err
    assert result.code == (78 if "a.b=1" in arguments else 0)


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
        and split_of(text := f"{document.text[:position]}z{document.text[position + 1 :]}", curate) == "test"
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
    plan = finished.plan("normalize.unicode_form=none")
    assert plan["normalize"]["reasons"] == ['normalize.unicode_form "NFC" -> "none"']
    outcomes = finished.run("normalize.unicode_form=none")
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
