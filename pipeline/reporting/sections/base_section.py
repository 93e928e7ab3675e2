"""What every section of a page has, and what a page shows: one run, or two beside each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from pipeline.reporting.jinja_templates import render
from pipeline.reporting.run_data import RunData

MAX_ROWS = 60
"""Of a table."""


@dataclass(frozen=True)
class Compared:
    """What a comparison says in one section: a table, whose first column names a figure or a setting, and notes."""

    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Shown:
    """The run of a page, or the two that it compares, with short names; `compared` by the names of sections."""

    runs: Sequence[RunData]
    names: Sequence[str] = ("",)
    compared: Mapping[str, Compared] = field(default_factory=dict)

    @property
    def is_pair(self) -> bool:
        """Whether two runs are compared."""
        return len(self.runs) > 1

    def beside(self, draw: Callable[[RunData], Markup]) -> Markup:
        """What `draw` makes of the run; of two each in a column of its own. "" where it makes nothing of any."""
        drawn = [draw(run) for run in self.runs]
        if not any(drawn):
            return Markup()
        return render("pair.html.j2", columns=list(zip(self.names, drawn, strict=True))) if self.is_pair else drawn[0]


@dataclass(frozen=True)
class PageSection:
    """A section: its anchor, its heading, what stands in it ("" leaves it out), and its name in the row of links."""

    name: str
    title: str
    draw: Callable[[Shown], Markup]
    link: str = ""
