"""Verbs that carry out a run or say beforehand what it would do and cost."""

from __future__ import annotations

import json
import shlex
from typing import Annotated

import typer

from pipeline.console.guarded import guarded
from pipeline.verbs.arguments import (
    ConfigArgument,
    DebugOption,
    ForceOption,
    FromOption,
    OnlyOption,
    OverridesArgument,
    UntilOption,
    selection_of,
    unknown_stage,
)


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
    selection = selection_of(first, last, only, force)

    def work() -> None:
        from pipeline.config.loading import load_config
        from pipeline.engine import runner
        from pipeline.modeling.usage import Usage

        loaded = load_config(config, overrides or (), selection.sections())
        view = runner.run(loaded, selection)
        last_stage = selection.stages()[-1].name
        if view is not None and last_stage != "report":
            print(f"\n{last_stage:<12} {view.artifact(last_stage)}")
        elif view is not None:
            print(f"\n{view.result()}")
            print(f"report       {view.folder / 'report.html'}  (open in a browser)")
            print(f"tensorboard  tensorboard --logdir {shlex.quote(str(view.folder))}")
            if longer := view.how_to_train_longer():
                print(f"longer       {longer}")
            model = view.folder / "model"
            usage = Usage.of(model)
            print(f"model        {model}" + (f"  ({usage.in_words})" if usage else ""))

    guarded(work, debug)


def plan(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    first: FromOption = None,
    last: UntilOption = None,
    only: OnlyOption = None,
    force: ForceOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a list of {stage, key, action, reasons, against, warnings}.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Say which stages a run would reuse, which it would run, and why. Runs nothing."""
    selection = selection_of(first, last, only, force)

    def work() -> None:
        from pipeline.config.loading import load_config
        from pipeline.engine import runner
        from pipeline.engine.artifacts import Workspace

        loaded = load_config(config, overrides or (), selection.sections())
        steps = runner.plan(loaded, Workspace(loaded.run.workspace), selection)
        print(json.dumps([step.as_json() for step in steps], indent=1) if as_json else runner.format_plan(steps))

    guarded(work, debug)


def explain(
    config: ConfigArgument,
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="One of the eleven stages.")],
    overrides: OverridesArgument = None,
    debug: DebugOption = False,
) -> None:
    """Show what one stage depends on, and what differs from before."""
    from pipeline.engine.runner import NAMES
    from pipeline.stages import STAGES

    if stage not in NAMES:
        raise typer.BadParameter(unknown_stage(stage), param_hint="STAGE")

    def work() -> None:
        from pipeline.config.loading import load_config
        from pipeline.engine import runner
        from pipeline.engine.artifacts import Workspace

        loaded = load_config(config, overrides or (), runner.Selection(only=stage).sections())
        print(runner.explain(loaded, Workspace(loaded.run.workspace), STAGES[NAMES.index(stage)]))

    guarded(work, debug)


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

        loaded = load_config(config, overrides or (), ("run", "model", "train"))
        accelerator = device_named(device)
        loaded.train.device_batch_size(num_devices)  # tells at once when the batch cannot be shared out
        from pipeline.planning.estimate import Estimator, Hardware
        from pipeline.planning.table import format_estimate

        result = Estimator(loaded, Hardware(accelerator, num_devices, utilization)).result()
        print(json.dumps(result, indent=1) if as_json else format_estimate(result))

    guarded(work, debug)
