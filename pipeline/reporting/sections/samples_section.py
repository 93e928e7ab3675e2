"""Texts that the model wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from pipeline.reporting import formats
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown

MAX_SAMPLES = 20
MAX_SAMPLE_CHARACTERS = 4000


def _draw(shown: Shown) -> Markup:
    return shown.beside(
        lambda run: render("samples.html.j2", samples=_rows(run)) if run.words.is_generative else Markup()
    )


def _rows(run: RunData) -> list[dict[str, Any]]:
    """Prompts and their continuations, and what of those stands in the training text."""
    return [
        {
            **{name: formats.shorten(str(sample.get(name, "")), MAX_SAMPLE_CHARACTERS) for name in ("prompt", "text")},
            "copied": sample.get("copied"),
            "settings": _settings(sample.get("settings") or {}),
        }
        for sample in (run.summary("evaluate").get("samples") or [])[:MAX_SAMPLES]
    ]


def _settings(settings: Mapping[str, Any]) -> str:
    """By which a sample can be written again."""
    if not settings:
        return ""
    temperature, top_k, seed = (settings.get(name) for name in ("temperature", "top_k", "seed"))
    chosen = f"temperature {temperature}{f', top {top_k}' if top_k else ''}" if temperature else "always the likeliest"
    drawn = "" if seed is None else f", seed {seed}"
    return f"{chosen}, at most {settings.get('max_new_tokens')} tokens{drawn}"


SECTION = PageSection("samples", "Samples", _draw)
