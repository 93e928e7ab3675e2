"""Why a stage has to run: told against the last artifact of the run, or a kindred one, never an unrelated one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.engine.differences import describe_differences

CONFIG = """\
run: {name: books}
ingest: {sources: [{name: books, type: text, paths: [books.txt]}]}
"""
OTHER = """\
run: {name: news}
ingest:
  max_rejected_fraction: 0.5
  sources: [{name: news, type: jsonl, paths: [news.jsonl], text_field: body, max_documents: 9}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace in which the runs `books` and, of other data, `news` have read their sources."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "books.txt").write_text("One of the books that were read.")
    (tmp_path / "news.jsonl").write_text('{"body": "Something happened today."}\n')
    (tmp_path / "books.yaml").write_text(CONFIG)
    (tmp_path / "news.yaml").write_text(OTHER)
    for name in ("books", "news"):
        descent("run", f"{name}.yaml")
    return tmp_path


def descent(verb: str, *arguments: str) -> str:
    done = CliRunner().invoke(app, [verb, *arguments, "--until", "ingest"])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def ingest(*arguments: str) -> tuple[list[str], str | None]:
    """Reasons why the stage would run, and against what they are told."""
    (step,) = json.loads(descent("plan", *arguments, "--json"))
    assert step["action"] == "run"
    return step["reasons"], step["against"]


def remove_artifact(folder: Path, run: str) -> None:
    state = json.loads((folder / f"workspace/runs/{run}/run.json").read_text())
    shutil.rmtree(folder / "workspace/artifacts/ingest" / state["stages"]["ingest"]["key"])


def test_a_run_is_compared_with_what_it_was_before_not_with_a_nearer_one(folder: Path) -> None:
    descent("run", "books.yaml", "run.name=strict", "ingest.max_rejected_fraction=0.25")
    settings = ["books.yaml", "ingest.max_rejected_fraction=0.25", "ingest.sources.0.separator=x"]
    expected = ["ingest.max_rejected_fraction 0.01 -> 0.25", 'ingest.sources.0.separator null -> "x"']
    assert ingest(*settings) == (expected, "run books")
    assert ingest(*settings, "run.name=strict") == (expected[1:], "run strict")


def test_a_section_that_comes_or_goes_is_told_as_one() -> None:
    on = {"near": {"at": 0.5, "by": 2}}
    for before, after, told in (
        ({"near": None}, on, 'curate.near null -> {"at": 0.5, "by": 2}'),
        (on, {"near": None}, 'curate.near {"at": 0.5, "by": 2} -> null'),
        ({"near": None}, {"near": {}}, "curate.near null -> its defaults"),
    ):
        kept = {"stage": "curate", "version": 1, "seed": None, "files_in": {}, "inputs": {}}
        assert describe_differences(kept | {"section": before}, kept | {"section": after}) == [told]


def test_a_new_run_is_compared_with_the_nearest_of_the_same_sources(folder: Path) -> None:
    descent("run", "books.yaml", "run.name=strict", "ingest.max_rejected_fraction=0.25")
    settings = ["books.yaml", "run.name=new", "ingest.max_rejected_fraction=0.25", "ingest.sources.0.separator=x"]
    expected = ['ingest.sources.0.separator null -> "x"']
    assert ingest(*settings) == (expected, "run strict")
    assert descent("plan", *settings).endswith('separator null -> "x"  (against run strict)\n')
    assert (
        '\nagainst run strict:\n  ingest.sources.0.separator null -> "x"\n'
        in CliRunner().invoke(app, ["explain", settings[0], "ingest", *settings[1:]]).stdout
    )
    (key,) = {path.name for path in (folder / "workspace/artifacts/ingest").iterdir()} & {
        json.loads((folder / "workspace/runs/strict/run.json").read_text())["stages"]["ingest"]["key"]
    }
    shutil.rmtree(folder / "workspace/runs/strict")
    assert ingest(*settings) == (expected, f"artifact {key}")


@pytest.mark.parametrize("change", [[], ["ingest.max_rejected_fraction=0.5"]])
def test_a_run_of_other_sources_has_nothing_earlier(folder: Path, change: list[str]) -> None:
    (folder / "plays.txt").write_text("Other words.")
    told = ingest("books.yaml", "run.name=new", "ingest.sources.0.paths=[plays.txt]", *change)
    assert told == (["no earlier artifact of this run"], None)


def test_a_source_whose_file_changed_is_still_the_same_source(folder: Path) -> None:
    (folder / "books.txt").write_text("Another one of the books.")
    assert ingest("books.yaml", "run.name=new") == (["source books.txt changed"], "run books")


def test_a_source_more_or_less_is_one_reason(folder: Path) -> None:
    both = (
        "ingest.sources=[{name: books, type: text, paths: [books.txt]}, {name: news, type: text, paths: [news.jsonl]}]"
    )
    expected = ["ingest.sources.1 (news) added", "source news.jsonl added"]
    assert ingest("books.yaml", both) == (expected, "run books")
    descent("run", "books.yaml", both)
    expected = ["ingest.sources.1 (news) removed", "source news.jsonl removed"]
    assert ingest("books.yaml", "ingest.max_rejected_fraction=0.25") == (
        ["ingest.max_rejected_fraction 0.01 -> 0.25", *expected],
        "run books",
    )


def test_an_artifact_that_was_removed_is_told(folder: Path) -> None:
    remove_artifact(folder, "books")
    assert ingest("books.yaml") == (["its artifact is no longer there"], None)
    assert ingest("books.yaml", "ingest.max_rejected_fraction=0.25") == (["no earlier artifact of this run"], None)


def test_a_damaged_run_json_is_taken_for_none(folder: Path) -> None:
    state: dict[str, Any] = json.loads((folder / "workspace/runs/books/run.json").read_text())
    (folder / "workspace/runs/books/run.json").write_text(json.dumps({**state, "stages": {}}))
    reasons, against = ingest("books.yaml", "ingest.max_rejected_fraction=0.25")
    assert reasons == ["ingest.max_rejected_fraction 0.01 -> 0.25"]
    assert str(against).startswith("artifact ")
