"""Arguments and options that several verbs have."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

import typer

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


def selection_of(first: str | None, last: str | None, only: str | None, force: list[str] | None) -> Any:
    """What the options of stages select, a `runner.Selection`. Raises BadParameter for what they cannot mean."""
    from pipeline.engine.runner import NAMES, Selection

    named = {"--from": [first], "--until": [last], "--only": [only], "--force": [*(force or ())]}
    for option, stages in named.items():
        for stage in stages:
            if stage is not None and stage not in NAMES:
                raise typer.BadParameter(unknown_stage(stage), param_hint=option)
    if only and (first or last):
        raise typer.BadParameter("cannot be combined with --from or --until", param_hint="--only")
    if first and last and NAMES.index(first) > NAMES.index(last):
        raise typer.BadParameter(f"{first} comes after {last} (--until); name an earlier stage", param_hint="--from")
    selection = Selection(first, last, only, tuple(force or ()))
    outside = [stage for stage in selection.force if stage not in {s.name for s in selection.stages()}]
    if outside:
        raise typer.BadParameter(f"{outside[0]} is not among the stages to run", param_hint="--force")
    return selection


def unknown_stage(stage: str) -> str:
    """A message for a name that no stage has."""
    from pipeline.engine.runner import NAMES

    nearest = difflib.get_close_matches(stage, NAMES, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"the stages are {', '.join(NAMES)}"
    return f"unknown stage {stage!r}; {hint}"
