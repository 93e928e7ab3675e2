"""A library that panics (Rust's word for failing within itself) or ends the process is told like any other error."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from harness import Project

from pipeline.errors import Panic, panics_as_errors

SETTINGS = ("tokenizer={type: pretrained, pretrained: theirs}", "--until", "tokenizer")

PANICS_IN_USE = {"pre_tokenizer": {"type": "FixedLength", "length": 0}}
PANICS_WHEN_LOADED = {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}
"""Malformed parts of a tokenizer.json on which the library of tokenizers panics in place of an exception."""


def give_tokenizer(project: Project, change: dict[str, Any]) -> None:
    """A folder with the run's own tokenizer, changed."""
    shutil.copytree(project.artifact("tokenizer"), project.folder / "theirs")
    path = project.folder / "theirs" / "tokenizer.json"
    path.chmod(0o644)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_the_panics_of_these_tests_are_no_exceptions() -> None:
    from tokenizers import Tokenizer

    empty = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
    with pytest.raises(BaseException, match="Cannot parse precompiled_charsmap") as caught:
        Tokenizer.from_str(json.dumps(empty | PANICS_WHEN_LOADED))
    assert not isinstance(caught.value, Exception)
    tokenizer = Tokenizer.from_str(json.dumps(empty | PANICS_IN_USE))
    with pytest.raises(Panic, match="chunk size must be non-zero"), panics_as_errors():
        tokenizer.encode("text")


def test_a_panic_in_a_stage_is_an_internal_error_of_that_stage(finished: Project) -> None:
    give_tokenizer(finished, PANICS_IN_USE)
    result = finished.descent("run", "tiny.yaml", *SETTINGS)
    assert result.code == 70, result.err
    told = "tokenizer: internal error: Panic: chunk size must be non-zero"
    assert result.err.splitlines()[-1] == f"descent: {told} (--debug shows where)"
    assert "Traceback" not in result.err
    state = finished.state()
    assert (state["outcome"], state["exit_code"], state["message"]) == ("failed", 70, told)
    assert not list(finished.workspace.glob("artifacts/*/.tmp-*"))
    assert "Traceback" in finished.descent("run", "tiny.yaml", *SETTINGS, "--debug").err


def test_a_panic_over_a_file_of_the_users_names_it(finished: Project) -> None:
    give_tokenizer(finished, PANICS_WHEN_LOADED)
    result = finished.descent("run", "tiny.yaml", *SETTINGS)
    assert result.code == 78, result.err
    assert result.err.splitlines()[-1].startswith(
        "descent: tokenizer.pretrained: theirs gives no tokenizer: Precompiled: "
    )


def test_a_panic_over_damage_in_the_workspace_names_the_artifact(finished: Project) -> None:
    path = finished.artifact("tokenizer") / "tokenizer.json"
    path.chmod(0o644)
    size = path.stat().st_size
    value = json.loads(path.read_text()) | PANICS_IN_USE
    value["model"]["merges"] = value["model"]["merges"][:9]
    path.write_text(json.dumps(value).ljust(size))  # of the same size, by which it is found
    assert path.stat().st_size == size
    finished.forget_from("encode")
    result = finished.descent("run", "tiny.yaml", "--until", "encode")
    assert result.code == 74, result.err
    assert result.err.splitlines()[-1].startswith("descent: encode: the artifact file workspace/artifacts/tokenizer/")


def test_generate_names_the_model_whose_tokenizer_panics(finished: Project) -> None:
    path = finished.workspace / "runs/tiny/model/tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | PANICS_WHEN_LOADED))
    result = finished.descent("generate", "tiny.yaml", "--prompt", "a")
    assert result.code == 74, result.err
    last = result.err.splitlines()[-1]
    assert last.startswith("descent: workspace/runs/tiny/model: cannot be loaded (Panic: Precompiled: "), last
