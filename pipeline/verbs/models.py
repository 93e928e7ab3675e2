"""Verbs that use what a training left."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import BadDataError, ConfigError, MissingInputError
from pipeline.guarded import guarded
from pipeline.verbs.arguments import ConfigArgument, DebugOption, OverridesArgument


def generate(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", help="Opening to continue (repeatable); else standard input.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Most tokens of a text.")] = 96,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="0 takes the likeliest token.")] = 0.8,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Sample from this many likeliest tokens.")] = 50,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed, another text.")] = 0,
    debug: DebugOption = False,
) -> None:
    """Let the model in the run's folder continue prompts."""
    if not math.isfinite(temperature):
        raise typer.BadParameter(f"{temperature} is not finite", param_hint="--temperature")
    for text in prompt or ():
        if text.encode(errors="ignore").decode() != text:
            raise typer.BadParameter(f"{text!r} is not UTF-8", param_hint="--prompt")

    def work() -> None:
        from pipeline.artifacts import Workspace
        from pipeline.config.evaluation import SamplesConfig
        from pipeline.config.loading import load_config
        from pipeline.runs import check_code

        loaded = load_config(config, overrides or ())
        if loaded.model.task != "causal_lm":
            raise ConfigError(
                f"model.task {loaded.model.task}: the model writes no text; load the run's model/ with transformers' "
                "AutoModelForSequenceClassification, as its README.md shows"
            )
        run_config = loaded.run
        workspace = Workspace(run_config.workspace)
        folder = workspace.run(run_config.name) / "model"
        if not (folder / "config.json").is_file():
            raise MissingInputError(f"{folder}: the run has no model yet; descent run {config} makes it")
        check_code(workspace, run_config.name)
        prompts = prompt or [_standard_input()]
        from pipeline.evaluation.samples import continue_prompts

        settings = SamplesConfig(max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k)
        for sample in continue_prompts(folder, prompts, settings, seed):
            print(f"{sample['prompt']}{sample['text']}", flush=True)

    guarded(work, debug)


def replay(
    folder: Annotated[Path, typer.Argument(help="An autopsy, as a training that diverged names it.")],
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
    debug: DebugOption = False,
) -> None:
    """Run the step of an autopsy again; show every module's values."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise typer.BadParameter(f"{device!r} is none of cpu, cuda, cuda:N", param_hint="--device")

    def work() -> None:
        from pipeline.training.autopsy import format_replay, replay

        print(format_replay(replay(folder, device)))

    guarded(work, debug)


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode().rstrip("\n") if sys.stdin else ""
    except UnicodeDecodeError as error:
        raise BadDataError(f"standard input: not UTF-8 at byte {error.start}; give the prompt as UTF-8") from None
