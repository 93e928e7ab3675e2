"""Texts and verdicts as Markdown, for TensorBoard. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

from pipeline.telemetry.verdicts import Verdict

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|])")
TILDE = "&#126;"
"""No backslash takes its meaning from it."""


def plain_markdown(text: str) -> str:
    """Markdown that shows a text as it is, line by line."""
    lines = [SPECIAL.sub(r"\\\1", escape(line, quote=False)) for line in text.strip().splitlines()]
    return "  \n".join(lines).replace("~", TILDE)


def quoted_markdown(text: str) -> str:
    """The same as a quotation."""
    return "\n".join(f"> {line}" for line in plain_markdown(text).splitlines())


def sample_markdown(sample: Mapping[str, str]) -> str:
    """A text that a model wrote, and what it goes on from; or why there is none."""
    if "error" in sample:
        return f"{plain_markdown(sample['prompt'])}\n\n**not written:** {plain_markdown(sample['error'])}"
    return f"{plain_markdown(sample['prompt'])}\n\n**goes on:**\n\n{quoted_markdown(sample['text'])}"


def verdict_markdown(verdict: Verdict) -> str:
    """A verdict with its evidence, its remedy and where its threshold is from. A rule that holds no more is over."""
    what, words = verdict.what.replace("_", " "), plain_markdown(verdict.evidence.words)
    severity = "over" if verdict.verdict == "healthy" and verdict.what != verdict.kind else verdict.verdict
    lines = [f"**{severity}: {plain_markdown(what)}** {words}"]
    if verdict.remedy and not verdict.is_healthy:
        lines.append(f"What to do: {plain_markdown(verdict.remedy)}")
    if verdict.source:
        lines.append(f"*{plain_markdown(verdict.source)}*")
    return "  \n".join(lines)
