"""Verbs about configurations themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.console.error_exit import guarded
from pipeline.verbs.command_options import DebugOption


def init(
    kind: Annotated[str | None, typer.Argument(help="What to start; without it, all kinds are listed.")] = None,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to write it.", show_default="KIND.yaml")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Write a commented configuration to start from."""
    from pipeline.verbs import starter_files

    if kind is not None and kind not in starter_files.KINDS:
        raise typer.BadParameter(starter_files.nearest_kind(kind), param_hint="KIND")
    if file is not None and (file.name in ("", "..") or not str(file).isprintable()):
        raise typer.BadParameter(f"{str(file)!r} can be no configuration; name another", param_hint="FILE")

    def work() -> None:
        if kind is None:
            print(_kinds())
            return
        for path in starter_files.start(kind, file):
            print(f"wrote {path}")
        print("its first lines say what to type next")

    guarded(work, debug)


def schema() -> None:
    """Print the JSON Schema of a configuration, for editors."""
    from pipeline.config.schema import json_schema

    print(json.dumps(json_schema(), indent=1, ensure_ascii=False))


def _kinds() -> str:
    from pipeline.verbs.starter_files import KINDS, RUNS, TOPOLOGIES, purpose_of

    width = max(map(len, KINDS))
    lines = ["descent init KIND [FILE] writes one of these; descent run FILE carries it out:"]
    lines += [f"  {kind:<{width}}  {purpose_of(kind)}" for kind in RUNS]
    lines.append("or one of these, for accelerate launch --config_file FILE --no_python descent run RUN.yaml:")
    lines += [f"  {kind:<{width}}  {purpose_of(kind)}" for kind in TOPOLOGIES]
    return "\n".join(lines)
