"""What features add to the key of a stage that uses them: versions of the libraries that they call, and facts."""

from __future__ import annotations

import pickle
import unicodedata
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pytest
from harness import workspace_in

from pipeline.corpus.augment_config import AugmentConfig
from pipeline.corpus.augmentations.keyboard import Keyboard
from pipeline.corpus.normalize_config import NormalizeConfig
from pipeline.corpus.steps.strip_control_characters import StripControlCharacters
from pipeline.engine.artifacts import Workspace, library_version
from pipeline.engine.differences import describe_differences
from pipeline.engine.stage import Stage
from pipeline.features import Feature
from pipeline.section import Section
from pipeline.stages import augment, curate, normalize


class Scale(Feature, type="scale"):
    """Weigh."""

    libraries: ClassVar[tuple[str, ...]] = ("filelock",)
    fact: ClassVar[Mapping[str, Any]] = {}

    def facts_of_key(self) -> Mapping[str, Any]:
        return self.fact

    @cached_property
    def table(self) -> bytes:
        return bytes(100_000_000)


class Scales(Section):
    scales: tuple[Scale, ...] = ()


STAGE = Stage(name="weigh", version=1, run=lambda context: {}, libraries=("typer",))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_in(tmp_path)


def payload(workspace: Workspace, stage: Stage, section: Any) -> dict[str, Any]:
    return workspace.identify(stage, section, None, {}).payload


def test_libraries_of_a_feature_enter_the_key_where_it_is_used(workspace: Workspace) -> None:
    assert list(payload(workspace, STAGE, Scales())["libraries"]) == ["typer"]
    found = payload(workspace, STAGE, Scales(scales=(Scale(), Scale())))["libraries"]
    assert found == {"typer": library_version("typer"), "filelock": library_version("filelock")}


def test_facts_enter_the_key_and_plan_names_them(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    section = Scales(scales=(Scale(),))
    without = workspace.identify(STAGE, section, None, {})
    assert "facts" not in without.payload  # keys of stages without facts stay as they were
    monkeypatch.setattr(Scale, "fact", {"zero": "brass"})
    brass = workspace.identify(STAGE, section, None, {})
    monkeypatch.setattr(Scale, "fact", {"zero": "steel"})
    steel = workspace.identify(STAGE, section, None, {})
    assert len({without.key, brass.key, steel.key}) == 3
    assert describe_differences(brass.payload, steel.payload) == ["zero brass -> steel"]
    assert describe_differences(without.payload, steel.payload) == ["zero (not recorded) -> steel"]
    bare = payload(workspace, STAGE, Scales())
    assert f"filelock {library_version('filelock')} -> (not used)" in describe_differences(without.payload, bare)


def test_an_update_of_ftfy_or_nlpaug_redoes_only_corpora_that_use_it(workspace: Workspace) -> None:
    assert list(payload(workspace, normalize.STAGE, NormalizeConfig())["libraries"]) == ["ftfy"]
    plain = NormalizeConfig(steps=[StripControlCharacters()])
    assert payload(workspace, normalize.STAGE, plain)["libraries"] == {}
    assert payload(workspace, augment.STAGE, AugmentConfig())["libraries"] == {}
    altered = AugmentConfig(operations=[Keyboard()], fraction=0.5)
    assert list(payload(workspace, augment.STAGE, altered)["libraries"]) == ["nlpaug"]


def test_pythons_with_other_unicode_tables_share_no_key(workspace: Workspace) -> None:
    unicode = {"unicode": unicodedata.unidata_version}
    assert payload(workspace, normalize.STAGE, NormalizeConfig())["facts"] == unicode
    assert payload(workspace, curate.STAGE, curate.STAGE.config())["facts"] == unicode
    assert "facts" not in payload(workspace, normalize.STAGE, NormalizeConfig(steps=[StripControlCharacters()]))


def test_what_a_feature_keeps_for_itself_does_not_travel() -> None:
    scale = Scale()
    assert len(scale.table) == 100_000_000
    packed = pickle.dumps(scale)
    assert len(packed) < 10_000
    assert pickle.loads(packed) == Scale()
