"""The command line of `descent`."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer

from pipeline import __version__
from pipeline.console.error_exit import code_of_output, complain
from pipeline.engine.launches.launch import is_local_main_process
from pipeline.verbs import ablate_command, config_commands, model_commands, run_commands, workspace_commands

app = typer.Typer(
    name="descent",
    help="One YAML file takes raw text to an evaluated language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)

UsageError: Any = typer.BadParameter.__base__  # typer's own copy of click, or click itself: it depends on the version

VERBS = (
    config_commands.init,
    run_commands.run,
    run_commands.plan,
    workspace_commands.status,
    run_commands.explain,
    workspace_commands.diff,
    ablate_command.ablate,
    workspace_commands.report,
    workspace_commands.verify,
    workspace_commands.gc,
    run_commands.estimate,
    model_commands.generate,
    model_commands.export,
    model_commands.anatomy,
    model_commands.replay,
    config_commands.schema,
)
"""All verbs, in the order in which help lists them."""

for _verb in VERBS:
    app.command()(_verb)


def _version(value: bool) -> None:
    if value:
        print(f"descent {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Carry out a command line and leave the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # Names of files need not be text of any encoding.
    given = sys.argv[1:] if arguments is None else arguments
    try:
        code = typer.main.get_command(app).main(args=given or ["--help"], prog_name="descent", standalone_mode=False)
    except UsageError as error:
        message = " ".join(error.format_message().split()).rstrip(".?")
        if "." in str(getattr(error, "option_name", "")):
            message += "; settings of the run are given without dashes, as train.max_steps=3"
        if message.startswith("No such command") and given[0].endswith((".yaml", ".yml")):
            message += f"; descent run {given[0]} carries it out"
        if is_local_main_process(os.environ):
            complain(f"{message}; {error.ctx.command_path if error.ctx else 'descent'} --help shows what there is")
        sys.exit(2)
    sys.exit(((code or 0) if given else 2) or code_of_output())
