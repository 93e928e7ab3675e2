"""Verbs that use what a training left."""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console.error_exit import complain, guarded
from pipeline.errors import BadDataError, ConfigError, MissingInputError, StorageError
from pipeline.exporting import OUTTYPES, gguf_name
from pipeline.verbs.command_options import ConfigArgument, DebugOption, OverridesArgument

if TYPE_CHECKING:
    from pipeline.config import Config


def generate(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", help="Opening to continue (repeatable); else standard input.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Most tokens of a text. By default as in evaluate.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, help="0 takes the likeliest token. As in evaluate.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Sample from so many likeliest tokens. As in evaluate.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Another seed, another text. By default run.seed.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Let the model in the run's folder continue prompts."""
    if temperature is not None and not math.isfinite(temperature):
        raise typer.BadParameter(f"{temperature} is not finite", param_hint="--temperature")
    for text in prompt or ():
        if text.encode(errors="ignore").decode() != text:
            raise typer.BadParameter(f"{text!r} is not UTF-8", param_hint="--prompt")

    def work() -> None:
        loaded, folder = _model_of(config, overrides or ())
        given = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k}
        samples = loaded.evaluate.samples.model_copy(update={k: v for k, v in given.items() if v is not None})
        is_main = os.environ.get("RANK", "0") == "0"
        prompts = prompt or (_prompts(samples.prompts) if is_main else [])
        from pipeline.evaluation.samples import continue_prompts

        for sample in continue_prompts(folder, prompts, samples, loaded.run.seed if seed is None else seed):
            if is_main:
                print(f"{sample['prompt']}{sample['text']}", flush=True)

    guarded(work, debug)


def export(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="gguf, which llama.cpp reads.")] = "gguf",
    outtype: Annotated[
        str, typer.Option("--outtype", metavar="TYPE", help="Of the weights: f32, f16, bf16 or q8_0.")
    ] = "f16",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="By default beside model/ in the run's folder.")
    ] = None,
    uncompared: Annotated[
        bool, typer.Option("--uncompared", help="Also an architecture that no test compares in llama.cpp.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Write the model in the run's folder for another engine."""
    for value, known, option in ((to, ("gguf",), "--to"), (outtype, OUTTYPES, "--outtype")):
        if value not in known:
            raise typer.BadParameter(f"{value!r} is none of {', '.join(known)}", param_hint=option)

    def work() -> None:
        loaded, folder = _model_of(config, overrides or ())
        from pipeline.engine.artifacts import Workspace
        from pipeline.engine.runner import wait
        from pipeline.exporting.gguf_file import write_gguf
        from pipeline.stages import STAGES
        from pipeline.verbs.model_folder_checks import check_trained_files

        name, workspace = loaded.run.name, Workspace(loaded.run.workspace, STAGES)
        target = output or folder.with_name(gguf_name(outtype))
        # A run of this name may put another model there, and clears what it finds half written; none does where nothing
        # can be written.
        is_written = os.access(workspace.root, os.W_OK)
        with workspace.lock("run", name, partial(wait, "export")) if is_written else nullcontext():
            check_trained_files(workspace, name)
            written = write_gguf(folder, target, outtype, name, uncompared)
        if not written.is_compared:
            complain("note: no test compares this architecture in llama.cpp; scripts/check_export.py --gguf does")
        remark = "" if written.is_new else ", unchanged"
        print(f"{written.path}  ({written.num_bytes / 1e6:,.2f} MB, {outtype}{remark})")
        print(f'llama-completion -m {shlex.quote(str(written.path))} -no-cnv -p "..." continues a text with it')

    guarded(work, debug)


def anatomy(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="After so many of its steps. By default nearest the middle.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="By default anatomy-STEP.html in the run's folder.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Take one step of a training apart: a batch through the network, back, and into an update, with its formulas."""

    def work() -> None:
        from pipeline import atomic
        from pipeline.config.loading import load_config
        from pipeline.engine.artifacts import Workspace
        from pipeline.reporting.anatomy_page import render_anatomy
        from pipeline.reporting.anatomy_words import summary_lines
        from pipeline.stages import STAGES
        from pipeline.verbs.training_of_run import training_of_run

        run = load_config(config, overrides or (), ("run",)).run
        workspace = Workspace(run.workspace, STAGES)
        training = training_of_run(workspace, run.name, f"descent run {shlex.quote(str(config))}")
        found = training.anatomy(step, complain)
        page = html or workspace.run(run.name) / f"anatomy-{found.step}.html"
        atomic.write_bytes(page, render_anatomy(found, run.name, training.listed).encode())
        print("\n".join(summary_lines(found, run.name)))
        chosen = "; without --step the one nearest the middle, where an update teaches most" if step is None else ""
        print(f"steps        {training.listed}: --step N takes one{chosen}")
        print(f"page         {page}  (open in a browser)")

    guarded(work, debug)


def replay(
    folder: Annotated[Path, typer.Argument(help="An autopsy, as a training that diverged names it.")],
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
    debug: DebugOption = False,
) -> None:
    """Run the step of an autopsy again; show every module's values."""
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", device):
        raise typer.BadParameter(f"{device!r} is none of cpu, cuda, cuda:N", param_hint="--device")

    def work() -> None:
        from pipeline.training.guarding.autopsy import format_replay, replay

        print(format_replay(replay(folder, device)))

    guarded(work, debug)


def _model_of(config: Path, overrides: Sequence[str]) -> tuple[Config, Path]:
    """The configuration, and the folder of the run's model, which writes text. Says where settings were others."""
    from pipeline.config.loading import load_config
    from pipeline.engine.artifacts import Workspace
    from pipeline.modeling.loading_code import Usage
    from pipeline.stages import STAGES
    from pipeline.tasks import task_named
    from pipeline.verbs.model_folder_checks import check_code, made_with

    loaded = load_config(config, overrides, ("run", "model"))
    task = task_named(loaded.model.task)
    if not task.words.is_generative:
        raise ConfigError(
            f"model.task {loaded.model.task}: the model writes no text; load the run's model/ with transformers' "
            f"{task.auto_class}, as its README.md shows"
        )
    name, workspace = loaded.run.name, Workspace(loaded.run.workspace, STAGES)
    folder = workspace.run(name) / "model"
    if Usage.of(folder) is None:
        how = f"descent run {shlex.quote(str(config))}"
        raise MissingInputError(f"{folder}: the run has no model yet; {how} makes it")
    check_code(workspace, name)
    for setting in made_with(workspace, loaded, [override.partition("=")[0] for override in overrides]):
        complain(f"note: the model of run {name} was made with {setting}; descent run makes another")
    return loaded, folder


def _prompts(of_configuration: list[str]) -> list[str]:
    """Prompts from a pipe. At a terminal: those of the configuration, or else what is typed."""
    if sys.stdin is not None and sys.stdin.isatty():
        if of_configuration:
            return of_configuration
        print("type an opening; Ctrl-D on a new line ends it", file=sys.stderr)
    try:
        return [sys.stdin.buffer.read().decode().rstrip("\n") if sys.stdin else ""]
    except UnicodeDecodeError as error:
        raise BadDataError(f"standard input: not UTF-8 at byte {error.start}; give the prompt as UTF-8") from None
    except OSError as error:
        raise StorageError(f"standard input: {error.strerror}; give the prompt with --prompt") from None
