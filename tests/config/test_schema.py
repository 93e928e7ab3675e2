"""The JSON Schema file is current, and every shipped configuration follows it and can be planned."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
from harness import select

from pipeline.config.loading import load_config
from pipeline.config.schema import json_schema
from pipeline.engine.plan import plan
from pipeline.plain_yaml import read_file
from pipeline.stages import STAGES

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
BRING_A_TEXT = ("shakespeare_char.yaml",)
"""Their text does not ship with the project: it is given by path."""


def test_the_schema_file_is_current() -> None:
    """Else: .venv/bin/descent schema > configs/schema.json"""
    assert json.loads((ROOT / "configs/schema.json").read_text()) == json_schema()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configurations_follow_the_schema_and_plan(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = Path(os.path.relpath(ROOT / "configs/schema.json", path.parent)).as_posix()
    assert path.read_text().startswith(f"# yaml-language-server: $schema={schema}\n")
    jsonschema.validate(read_file(path)[0], json_schema())
    monkeypatch.chdir(ROOT)
    overrides = [f"run.workspace={tmp_path}"]
    if path.name in BRING_A_TEXT:
        (tmp_path / "text.txt").write_text("A text of one's own.")
        overrides.append(f"ingest.sources.0.paths=[{tmp_path}/text.txt]")
    config = load_config(path, overrides)
    steps = plan(config, select())
    assert [step.stage for step in steps] == list(STAGES)
    assert steps[0].action == "run"


def test_the_schema_refuses_what_loading_refuses() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"train": {"learning_rat": 1}}, json_schema())


def test_every_field_is_described() -> None:
    def walk(node: object, place: str) -> None:
        if isinstance(node, dict):
            for name, field in node.get("properties", {}).items():
                assert "description" in field or "$ref" in field, f"{place}.{name}"
            for name, item in node.items():
                walk(item, f"{place}.{name}")

    walk(json_schema(), "")
