"""The verbs of `descent`."""

from __future__ import annotations

import difflib
import io
import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import __version__
from pipeline.errors import (
    BadDataError,
    ConfigError,
    MissingInputError,
    StorageError,
)
from pipeline.guarded import complain, guarded
from pipeline.launches.launch import speaks

app = typer.Typer(
    name="descent",
    help="One YAML file takes raw text to an evaluated language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

UsageError: Any = typer.BadParameter.__base__  # typer's own copy of click, or click itself: it depends on the version


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


def _selection(first: str | None, last: str | None, only: str | None, force: list[str] | None) -> Any:
    from pipeline.runner import NAMES, Selection

    named = {"--from": [first], "--until": [last], "--only": [only], "--force": [*(force or ())]}
    for option, stages in named.items():
        for stage in stages:
            if stage is not None and stage not in NAMES:
                raise typer.BadParameter(_unknown_stage(stage), param_hint=option)
    if only and (first or last):
        raise typer.BadParameter("cannot be combined with --from or --until", param_hint="--only")
    if first and last and NAMES.index(first) > NAMES.index(last):
        raise typer.BadParameter(f"{first} comes after {last} (--until); name an earlier stage", param_hint="--from")
    selection = Selection(first, last, only, tuple(force or ()))
    outside = [stage for stage in selection.force if stage not in {s.name for s in selection.stages()}]
    if outside:
        raise typer.BadParameter(f"{outside[0]} is not among the stages to run", param_hint="--force")
    return selection


def _unknown_stage(stage: str) -> str:
    from pipeline.runner import NAMES

    nearest = difflib.get_close_matches(stage, NAMES, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"the stages are {', '.join(NAMES)}"
    return f"unknown stage {stage!r}; {hint}"


@app.command()
def run(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    first: FromOption = None,
    last: UntilOption = None,
    only: OnlyOption = None,
    force: ForceOption = None,
    debug: DebugOption = False,
) -> None:
    """Carry out the run: reuse what exists, run what does not."""
    selection = _selection(first, last, only, force)

    def work() -> None:
        from pipeline import runner
        from pipeline.config.loading import load_config

        loaded = load_config(config, overrides or ())
        view = runner.run(loaded, selection)
        if view is not None and selection.stages()[-1].name == "report":
            print(f"\n{view.result()}")
            print(f"report       {view.folder / 'report.html'}  (open in a browser)")
            print(f"tensorboard  tensorboard --logdir {view.folder / 'tensorboard'}")
            kind = "CausalLM" if loaded.model.task == "causal_lm" else "SequenceClassification"
            model = view.folder / "model"
            flag = "; its code with trust_remote_code=True" if any(model.glob("*.py")) else ""
            print(f"model        {model}  (transformers' AutoModelFor{kind}.from_pretrained{flag})")

    guarded(work, debug)


@app.command()
def plan(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    first: FromOption = None,
    last: UntilOption = None,
    only: OnlyOption = None,
    force: ForceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of {stage, key, action, reasons}.")] = False,
    debug: DebugOption = False,
) -> None:
    """Say which stages a run would reuse, which it would run, and why. Runs nothing."""
    selection = _selection(first, last, only, force)

    def work() -> None:
        from pipeline import runner
        from pipeline.artifacts import Workspace
        from pipeline.config.loading import load_config

        loaded = load_config(config, overrides or ())
        steps = runner.plan(loaded, Workspace(loaded.run.workspace), selection)
        print(json.dumps([step.as_json() for step in steps], indent=1) if as_json else runner.format_plan(steps))

    guarded(work, debug)


@app.command()
def status(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    debug: DebugOption = False,
) -> None:
    """List the artifacts and runs of the configuration's workspace."""

    def work() -> None:
        from pipeline.config.loading import load_config
        from pipeline.status import format_status

        print(format_status(load_config(config, overrides or ()).run.workspace))

    guarded(work, debug)


@app.command()
def explain(
    config: ConfigArgument,
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="One of the eleven stages.")],
    overrides: OverridesArgument = None,
    debug: DebugOption = False,
) -> None:
    """Show what one stage depends on, and what differs from before."""
    from pipeline.runner import NAMES
    from pipeline.stages import STAGES

    if stage not in NAMES:
        raise typer.BadParameter(_unknown_stage(stage), param_hint="STAGE")

    def work() -> None:
        from pipeline import runner
        from pipeline.artifacts import Workspace
        from pipeline.config.loading import load_config

        loaded = load_config(config, overrides or ())
        print(runner.explain(loaded, Workspace(loaded.run.workspace), STAGES[NAMES.index(stage)]))

    guarded(work, debug)


@app.command()
def diff(
    config: ConfigArgument,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run of the workspace.")],
    rest: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [KEY=VALUE]",
            help="Another to compare it with; alone, it is compared with the configuration's own. Then settings.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    debug: DebugOption = False,
) -> None:
    """Compare two runs: settings, artifacts, data, losses, evaluation."""

    def work() -> None:
        from pipeline.artifacts import Workspace
        from pipeline.comparison.compare import compare_runs
        from pipeline.comparison.text import format_comparison
        from pipeline.config.loading import load_config

        others, overrides = (rest or [])[:1], (rest or [])[1:]
        if others and "=" in others[0]:
            others, overrides = [], [*others, *overrides]
        own = load_config(config, overrides).run
        names = (run, others[0]) if others else (own.name, run)
        found = compare_runs(Workspace(own.workspace), names)
        print(json.dumps(found, indent=1) if as_json else format_comparison(found))

    guarded(work, debug)


@app.command()
def verify(config: ConfigArgument, overrides: OverridesArgument = None, debug: DebugOption = False) -> None:
    """Read every artifact and checkpoint again; set broken ones aside."""

    def work() -> None:
        from pipeline import maintenance
        from pipeline.artifacts import Workspace
        from pipeline.config.loading import load_config
        from pipeline.progress import Progress

        workspace = Workspace(load_config(config, overrides or ()).run.workspace)
        found = maintenance.verify(workspace, Progress("verify"))
        if found:
            raise StorageError("\n".join([*found, "run again to build what is missing"]))
        print("every file is as its manifest says")

    guarded(work, debug)


@app.command()
def gc(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete what is listed.")] = False,
    debug: DebugOption = False,
) -> None:
    """List what no run uses; with --delete, delete it."""

    def work() -> None:
        from pipeline import maintenance
        from pipeline.artifacts import Workspace
        from pipeline.config.loading import load_config

        unused = maintenance.find_unused(Workspace(load_config(config, overrides or ()).run.workspace))
        for item in unused:
            print(f"{item.num_bytes / 1e6:>9.2f} MB  {item.folder}  ({item.reason})")
        total = f"{sum(item.num_bytes for item in unused) / 1e6:,.2f} MB in {len(unused)} folders"
        if delete:
            maintenance.delete(unused)
        print(f"{total}, deleted" if delete else f"{total}; --delete deletes them" if unused else "nothing is unused")

    guarded(work, debug)


@app.command()
def estimate(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    device: Annotated[str, typer.Option("--device", help="Kind of accelerator, such as A100 or H100.")] = "H100",
    num_devices: Annotated[int, typer.Option("--devices", min=1, help="How many of them.")] = 1,
    utilization: Annotated[
        float, typer.Option("--utilization", min=0.001, max=1, help="The share of their peak that training reaches.")
    ] = 0.4,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with sizes in bytes.")] = False,
    debug: DebugOption = False,
) -> None:
    """Say what a training of any size would need and take; runs nothing."""

    def work() -> None:
        from pipeline.config.loading import load_config
        from pipeline.planning.devices import device_named

        loaded = load_config(config, overrides or ())
        accelerator = device_named(device)
        loaded.train.device_batch_size(num_devices)  # tells at once when the batch cannot be shared out
        from pipeline.planning.estimate import Estimator, Hardware
        from pipeline.planning.table import format_estimate

        result = Estimator(loaded, Hardware(accelerator, num_devices, utilization)).result()
        print(json.dumps(result, indent=1) if as_json else format_estimate(result))

    guarded(work, debug)


@app.command()
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


@app.command()
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


@app.command()
def schema() -> None:
    """Print the JSON Schema of a configuration, for editors."""
    from pipeline.config.schema import json_schema

    print(json.dumps(json_schema(), indent=1, ensure_ascii=False))


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode().rstrip("\n") if sys.stdin else ""
    except UnicodeDecodeError as error:
        raise BadDataError(f"standard input: not UTF-8 at byte {error.start}; give the prompt as UTF-8") from None


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
        if speaks(os.environ):
            complain(f"{message}; {error.ctx.command_path if error.ctx else 'descent'} --help shows what there is")
        sys.exit(2)
    sys.exit((code or 0) if given else 2)
