"""Resolve settings that say `auto` for this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.engine.stage import Configuration
from pipeline.section import Section


@dataclass(frozen=True)
class Settled:
    """The configuration that is carried out, with what was chosen in it."""

    config: Configuration

    chosen: dict[str, dict[str, Any]]
    """The settings that were chosen, by section and name."""

    notes: dict[str, tuple[str, ...]]
    """What was chosen and why, by section."""


def settle(config: Configuration) -> Settled:
    """Choose the settings that say `auto`. Raises ConfigError where this machine does not tell."""
    chosen: dict[str, dict[str, Any]] = {}
    notes: dict[str, tuple[str, ...]] = {}
    for name in config.values():
        section: Section = getattr(config, name)
        if choices := section.choices():
            chosen[name] = {key: choice.value for key, choice in choices.items()}
            notes[name] = tuple(f"{name}.{key}: auto is {one.value} here ({one.why})" for key, one in choices.items())
    sections = {name: with_values(getattr(config, name), values) for name, values in chosen.items()}
    return Settled(with_values(config, sections), chosen, notes)


def with_values(section: Any, values: Mapping[str, Any]) -> Any:
    """A copy with other values. The settings that the user gave still count as given."""
    copy = section.model_copy(update=values)
    copy.model_fields_set.intersection_update(section.model_fields_set)
    return copy
