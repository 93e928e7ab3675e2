"""Verbs that look at a workspace and care for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console.error_exit import guarded
from pipeline.errors import ConfigError, InterruptedUnsaved, MissingInputError, StorageError, storage_errors
from pipeline.verbs.command_options import ConfigArgument, DebugOption, OverridesArgument

if TYPE_CHECKING:
    from pipeline.engine.artifacts import Workspace
    from pipeline.engine.run_config import RunConfig

WATCH_SECONDS, MAX_WATCH_SECONDS = 10.0, 86_400.0


def status(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    lists_all: Annotated[bool, typer.Option("--all", help="List every run and every artifact.")] = False,
    debug: DebugOption = False,
) -> None:
    """List the runs of the workspace, what they set otherwise and came to, and its artifacts."""

    def work() -> None:
        from pipeline.comparison.recorded_run import read_settings
        from pipeline.engine.status import format_status

        workspace = _workspace(_run_of(config, overrides))
        print(format_status(workspace, lambda path: read_settings(path)[0], lists_all))

    guarded(work, debug)


def diff(
    config: ConfigArgument,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... [KEY=VALUE]",
            help="Runs of the workspace; one alone is compared with the configuration's own. And settings.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page that shows two runs side by side.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Compare runs: settings, artifacts, data, losses, evaluation."""
    names = [word for word in runs if "=" not in word]
    overrides = [word for word in runs if "=" in word]
    if not names:
        raise typer.BadParameter("name a run to compare with", param_hint="RUN")
    if html and as_json:
        raise typer.BadParameter("writes a page, --json prints; give one of them", param_hint="--html")
    if html and len(names) > 2:
        words = f"shows two runs side by side, and {len(names)} are named; without --html any number is compared"
        raise typer.BadParameter(words, param_hint="--html")

    def work() -> None:
        from pipeline import atomic
        from pipeline.comparison.comparison_text import format_comparison
        from pipeline.comparison.diff_page import comparison_page
        from pipeline.comparison.run_comparison import compare_runs

        own = _run_of(config, overrides)
        if names == [own.name] and not overrides:
            raise ConfigError(f"diff: {own.name} is the configuration's own run; name another, or two")
        compared = names if len(names) > 1 else [own.name, *names]
        if html:
            with storage_errors(html.parent):
                atomic.write_bytes(html, comparison_page(_workspace(own), compared).encode())
            print(f"page  {html}  (open in a browser)")
            return
        found = compare_runs(_workspace(own), compared)
        print(json.dumps(found, indent=1) if as_json else format_comparison(found))

    guarded(work, debug)


def report(
    config: ConfigArgument,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="SECONDS|KEY=VALUE", help="How often --watch looks. And settings.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Renew the page while the run goes on, every 10 seconds or every SECONDS.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Write the page of a run as far as it has come: report-live.html in its folder."""
    overrides = [word for word in words or () if "=" in word]
    seconds = _seconds([word for word in words or () if "=" not in word], watch)

    def work() -> None:
        from pipeline.config.loading import load_config
        from pipeline.reporting.live_page import live_pages

        loaded = load_config(config, overrides, ("run", "report"))
        workspace, is_told = _workspace(loaded.run), False
        with storage_errors(workspace.root), suppress(InterruptedUnsaved):  # looking on is over: nothing is lost
            for page in live_pages(workspace, loaded.run.name, loaded.report, seconds if watch else 0.0):
                if not is_told:
                    print(f"page  {page}  (open in a browser)", flush=True)
                    is_told = True
                if not watch:
                    return
            print("the run has ended; the page is its last", flush=True)

    guarded(work, debug)


def _seconds(words: Sequence[str], watch: bool) -> float:
    """How often to look. Raises BadParameter for what is no such number."""
    if not words:
        return WATCH_SECONDS
    if not watch or len(words) > 1:
        raise typer.BadParameter(f"{words[-1]} is no setting (KEY=VALUE)", param_hint="KEY=VALUE")
    try:
        seconds = float(words[0])
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= MAX_WATCH_SECONDS:
        raise typer.BadParameter(f"{words[0]} is no number of seconds from 0.1 to 86400", param_hint="SECONDS")
    return seconds


def verify(config: ConfigArgument, overrides: OverridesArgument = None, debug: DebugOption = False) -> None:
    """Read every artifact and checkpoint again; set broken ones aside."""

    def work() -> None:
        from pipeline.engine import maintenance
        from pipeline.engine.published_copies import MENDED
        from pipeline.progress import Progress

        found = maintenance.verify(_workspace(_run_of(config, overrides)), Progress("verify"))
        if found:
            is_missing = not all(line.endswith((maintenance.STAYS, MENDED)) for line in found)
            raise StorageError("\n".join([*found, "run again to build what is missing"] if is_missing else found))
        print("every file is as its manifest says")

    guarded(work, debug)


def gc(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete what is listed.")] = False,
    debug: DebugOption = False,
) -> None:
    """List what no run uses; with --delete, delete it."""

    def work() -> None:
        from pipeline.engine import maintenance

        unused = maintenance.find_unused(_workspace(_run_of(config, overrides)))
        for item in unused:
            print(f"{item.num_bytes / 1e6:>9.2f} MB  {item.folder}  ({item.reason})")
        total = f"{sum(item.num_bytes for item in unused) / 1e6:,.2f} MB in {len(unused)} folders"
        if delete:
            maintenance.delete(unused)
        print(f"{total}, deleted" if delete else f"{total}; --delete deletes them" if unused else "nothing is unused")

    guarded(work, debug)


def _run_of(config: Path, overrides: Sequence[str] | None) -> RunConfig:
    """The `run:` section, which is all that these verbs need."""
    from pipeline.config.loading import load_config

    return load_config(config, overrides or (), ("run",)).run


def _workspace(run: RunConfig) -> Workspace:
    """Raises MissingInputError where there is none: its name may be mistyped."""
    from pipeline.engine.artifacts import Workspace
    from pipeline.stages import STAGES

    if not run.workspace.exists():
        raise MissingInputError(f"run.workspace: there is no {run.workspace} in {Path.cwd()}; descent run makes it")
    return Workspace(run.workspace, STAGES)
