"""A setting at its default is in no key, so a default may change only together with the version of its stage.

After a change that is meant, raise the version beside the stage's `run`; for a new setting there is nothing to raise.
Then record anew:

    .venv/bin/python -m pytest tests/config/test_defaults.py --record-digests
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Project, select
from pydantic import create_model
from pydantic_core import PydanticUndefined, to_jsonable_python

from pipeline.config import Config
from pipeline.config.loading import load_config
from pipeline.engine.plan import plan
from pipeline.modeling.model_config import ModelConfig
from pipeline.section import Section, sections_in
from pipeline.stages import STAGES
from pipeline.training.train_config import TrainConfig

RECORD = Path(__file__).with_name("recorded_defaults.json")


def defaults_of(section: type[Section], place: str, seen: tuple[type[Section], ...] = ()) -> Iterator[tuple[str, Any]]:
    """The default of every setting of a section and of those inside it, as JSON, by dotted key."""
    for name, field in section.model_fields.items():
        key = f"{place}.{name}"
        default = field.get_default(call_default_factory=True)
        yield key, "required" if default is PydanticUndefined else to_jsonable_python(default)
        for inner in sections_in(field.annotation):
            if inner not in seen:
                kind = inner.model_fields["type"].default if "type" in inner.model_fields else ""
                yield from defaults_of(inner, f"{key}.{kind}".rstrip("."), (*seen, section))


def test_no_default_changes_without_the_version_of_its_stage(request: pytest.FixtureRequest) -> None:
    now = {}
    for stage in STAGES:
        kinds = sections_in(Config.model_fields[stage.name].annotation)
        defaults = dict(defaults_of(kinds[0], stage.name))
        for kind in kinds[1:]:
            defaults |= defaults_of(kind, f"{stage.name}.{kind.model_fields['type'].default}")
        now[stage.name] = {"version": stage.version, "defaults": defaults}
    if request.config.getoption("--record-digests"):
        RECORD.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
    recorded = json.loads(RECORD.read_text())
    for stage, one in now.items():
        before = recorded[stage]
        changed = [key for key, value in one["defaults"].items() if before["defaults"].get(key, value) != value]
        assert not changed or before["version"] < one["version"], f"{stage}: raise its version for {changed}"
    assert now == recorded, "record the defaults anew; this file says how"


def test_a_setting_that_comes_later_and_is_off_leaves_a_finished_run_finished(
    finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)
    later = create_model("TrainConfig", __base__=TrainConfig, gradient_noise=(float, 0.0), kind=(str | None, None))
    config = create_model("Config", __base__=Config, train=(later, ...))
    values = load_config(Path("tiny.yaml")).model_dump(exclude_unset=True)

    def actions(**changes: Any) -> dict[str, str]:
        changed = config.model_validate({**values, "train": {**values["train"], **changes}})
        return {step.stage.name: step.action for step in plan(changed, select())}

    assert set(actions().values()) == {"reuse"}
    assert actions(gradient_noise=0.1)["train"] == "run"


def test_arguments_of_a_method_are_in_the_key_whatever_they_are_called() -> None:
    one, two = (ModelConfig(pretrained="x", adapter={"type": "lora", "r": r}).of_key() for r in (4, 8))
    assert one["adapter"] == {"type": "lora", "r": 4}
    assert two["adapter"] == {"type": "lora", "r": 8}
