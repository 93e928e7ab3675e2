"""Arguments and options that several verbs have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console.terminal_text import did_you_mean

if TYPE_CHECKING:
    from pipeline.engine.plan import Selection

ConfigArgument = Annotated[Path, typer.Argument(help="The run's YAML file.", show_default=False)]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings that replace those of the file.")
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="STAGE", help="Start at this stage; reuse what is before.")
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")]
OnlyOption = Annotated[str | None, typer.Option("--only", metavar="STAGE", help="Run this stage alone.")]
ForceOption = Annotated[
    list[str] | None,
    typer.Option("--force", metavar="STAGE", help="Rebuild this stage even if it exists (repeatable)."),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def selection_of(
    first: str | None = None,
    last: str | None = None,
    only: str | None = None,
    force: Sequence[str] | None = None,
    hint: str = "--only",
) -> Selection:
    """The stages that the options select. `hint` is what the verb calls `only`. Raises BadParameter for options that
    contradict each other or the pipeline."""
    from pipeline.engine.plan import Selection
    from pipeline.stages import STAGES

    selection = Selection(STAGES, first, last, only, tuple(force or ()))
    names = selection.names
    named: dict[str, list[str | None]] = {
        "--from": [first],
        "--until": [last],
        hint: [only],
        "--force": [*selection.force],
    }
    for option, stages in named.items():
        for stage in stages:
            if stage is not None and stage not in names:
                raise typer.BadParameter(_unknown_stage(stage, names), param_hint=option)
    if only and (first or last):
        raise typer.BadParameter("cannot be combined with --from or --until", param_hint=hint)
    if first and last and names.index(first) > names.index(last):
        raise typer.BadParameter(f"{first} comes after {last} (--until); name an earlier stage", param_hint="--from")
    outside = [stage for stage in selection.force if stage not in {s.name for s in selection.stages()}]
    if outside:
        raise typer.BadParameter(f"{outside[0]} is not among the stages to run", param_hint="--force")
    return selection


def _unknown_stage(stage: str, names: Sequence[str]) -> str:
    """A message for a name that no stage has."""
    hint = did_you_mean(stage, names, otherwise=f"; the stages are {', '.join(names)}")
    return f"unknown stage {stage!r}{hint}"
