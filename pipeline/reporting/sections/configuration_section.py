"""The settings of a run: those that its user gave, and all of them; of two runs those that differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from pipeline.engine.differences import flatten
from pipeline.engine.run_config import RunConfig
from pipeline.reporting import formats
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown


def _draw(shown: Shown) -> Markup:
    if shown.is_pair:
        return Markup()
    [run] = shown.runs
    return render("configuration.html.j2", given=_given(run), configuration=_all(run))


def _given(run: RunData) -> list[tuple[str, str]]:
    """The settings of the file and the command line with which the stages were made, by dotted key, and a seed that is
    not the default."""
    default = RunConfig.model_fields["seed"].default
    seeds = [seed for manifest in run.manifests.values() if (seed := manifest.get("seed")) not in (None, default)]
    sections: dict[str, Any] = {"run": {"seed": seeds[0]}} if seeds else {}
    sections |= {stage: manifest.get("given") for stage, manifest in run.manifests.items()}
    sections["report"] = run.config.model_dump(mode="json", exclude_unset=True)
    return _rows({stage: values for stage, values in sections.items() if values})


def _all(run: RunData) -> list[dict[str, Any]]:
    """Every section's settings, flattened to dotted keys; those outside the identity are marked."""
    sections = []
    for stage, manifest in {**run.manifests, **run.begun}.items():
        rows = [(key, value, False) for key, value in _rows(manifest.get("section") or {})]
        rows += [(key, value, True) for key, value in _rows(manifest.get("runtime") or {})]
        if (seed := manifest.get("seed")) is not None:
            rows.append(("run.seed", str(seed), False))
        sections.append({"name": stage, "rows": rows})
    return sections


def _rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, formats.shorten(_written(value), 300)) for key, value in flatten(settings).items()]


def _written(value: Any) -> str:
    """A value as its user would write it; a string with what would not be seen, such as a line break, in quotes."""
    if isinstance(value, list):
        value = ", ".join(map(str, value)) or "[]"
    is_plain = isinstance(value, str) and value.isprintable() and value.strip() == value != ""
    return value if is_plain else json.dumps(value, ensure_ascii=False)


SECTION = PageSection("configuration", "Configuration", _draw)
