"""The settings of a run for its report: those that its user gave, and all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.engine.run_config import RunConfig
from pipeline.reporting import formats
from pipeline.reporting.run_data import RunData


def given(run: RunData) -> list[tuple[str, str]]:
    """What the file and the command line set, by dotted key, as the stages were made with it, and a seed that is not
    the default."""
    default = RunConfig.model_fields["seed"].default
    seeds = [seed for manifest in run.manifests.values() if (seed := manifest.get("seed")) not in (None, default)]
    sections: dict[str, Any] = {"run": {"seed": seeds[0]}} if seeds else {}
    sections |= {stage: manifest.get("given") for stage, manifest in run.manifests.items()}
    sections["report"] = run.config.model_dump(mode="json", exclude_unset=True)
    return _flatten({stage: values for stage, values in sections.items() if values})


def configuration(run: RunData) -> list[dict[str, Any]]:
    """Every section's settings, flattened to dotted keys; those outside the identity are marked."""
    sections = []
    for stage, manifest in run.manifests.items():
        rows = [(key, value, False) for key, value in _flatten(manifest.get("section") or {})]
        rows += [(key, value, True) for key, value in _flatten(manifest.get("runtime") or {})]
        seed = manifest.get("seed")
        rows += [("run.seed", str(seed), False)] if seed is not None else []
        sections.append({"name": stage, "rows": rows})
    return sections


def _flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [row for key, item in value.items() for row in _flatten(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value):
        return [row for index, item in enumerate(value) for row in _flatten(item, f"{prefix}.{index}")]
    if isinstance(value, list):
        value = ", ".join(map(str, value)) or "[]"
    is_plain = isinstance(value, str) and value.isprintable() and value.strip() == value != ""
    shown = value if is_plain else json.dumps(value, ensure_ascii=False)  # "\n\n" would not be seen
    return [(prefix, formats.shorten(shown, 300))] if prefix else []
