"""Verbs that carry out a run or say beforehand what it would do and cost."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console.error_exit import guarded
from pipeline.verbs.command_options import (
    ConfigArgument,
    DebugOption,
    ForceOption,
    FromOption,
    OnlyOption,
    OverridesArgument,
    UntilOption,
    selection_of,
)

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.engine.run_view import RunView


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

        loaded = load_config(config, overrides or (), selection.sections())
        view = runner.run(loaded, selection)
        last_stage = selection.stages()[-1].name
        if view is not None and last_stage != selection.names[-1]:
            print(f"\n{last_stage:<12} {view.artifact(last_stage)}")
        elif view is not None:
            print("\n" + "\n".join(_closing_lines(loaded, view)))

    guarded(work, debug)


def _closing_lines(config: Config, view: RunView) -> list[str]:
    """What a whole run came to, and where to look at it."""
    from pipeline.modeling.loading_code import Usage
    from pipeline.stages.evaluate import main_result
    from pipeline.tasks import main_metric
    from pipeline.telemetry.verdicts import headline, verdicts_of
    from pipeline.training.checkpointing.continuing import how_to_train_longer

    train, evaluation = ((view.manifest(stage) or {"summary": {}})["summary"] for stage in ("train", "evaluate"))
    metric, model = main_metric(evaluation), view.folder / "model"
    others = ", ".join(f"{name} {one[metric]:.3f}" for name, one in evaluation["baselines"].items())
    compared = f"; {others}" if others else ""
    health = [verdict for one in (train, evaluation) for verdict in verdicts_of(one.get("health"))]
    longer = how_to_train_longer(config.train, train["steps"]) if view.was_built("train") else ""
    usage = Usage.of(model)
    return [
        f"result       {main_result(evaluation)}{compared}; {headline(health)}",
        f"report       {view.folder / 'report.html'}  (open in a browser)",
        f"tensorboard  tensorboard --logdir {shlex.quote(str(view.folder))}",
        *([f"longer       {longer}"] if longer else []),
        f"model        {model}" + (f"  ({usage.in_words})" if usage else ""),
    ]


def plan(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    first: FromOption = None,
    last: UntilOption = None,
    only: OnlyOption = None,
    force: ForceOption = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print a list of {stage, key, action, reasons, against, warnings, last_seconds}."),
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Say which stages a run would reuse, which it would run, and why. Runs nothing."""
    selection = selection_of(first, last, only, force)

    def work() -> None:
        from pipeline.config.loading import load_config
        from pipeline.engine.plan import format_plan, plan

        steps = plan(load_config(config, overrides or (), selection.sections()), selection)
        print(json.dumps([step.as_json() for step in steps], indent=1) if as_json else format_plan(steps))

    guarded(work, debug)


def explain(
    config: ConfigArgument,
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="One of the stages.")],
    overrides: OverridesArgument = None,
    debug: DebugOption = False,
) -> None:
    """Show what one stage depends on, and what differs from before."""
    selection = selection_of(only=stage, hint="STAGE")

    def work() -> None:
        from pipeline.config.loading import load_config
        from pipeline.engine.plan import explain

        print(explain(load_config(config, overrides or (), selection.sections()), selection))

    guarded(work, debug)


def estimate(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    device: Annotated[
        str, typer.Option("--device", help="Kind of accelerator, such as A100 or H100; or cpu, that of this machine.")
    ] = "H100",
    num_devices: Annotated[int, typer.Option("--devices", min=1, help="How many of them.")] = 1,
    utilization: Annotated[
        float | None,
        typer.Option(
            "--utilization", min=0.001, max=1, help="The share of their peak that training reaches; 0.4 but on a CPU."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with sizes in bytes.")] = False,
    debug: DebugOption = False,
) -> None:
    """Say what a training of any size would need and take; runs nothing."""

    def work() -> None:
        from pipeline.config.loading import load_config
        from pipeline.errors import ConfigError
        from pipeline.planning.devices import device_named

        loaded = load_config(config, overrides or (), ("run", "model", "train"))
        accelerator = device_named(device)
        if accelerator.is_cpu and num_devices > 1:
            raise ConfigError("--devices: --device cpu is the one of this machine; leave --devices out")
        loaded.train.micro_batch_size(num_devices)  # tells at once when the batch cannot be shared out
        from pipeline.planning.estimate import Estimator, Hardware
        from pipeline.planning.estimate_text import format_estimate

        share = utilization or (None if accelerator.is_cpu else 0.4)
        result = Estimator(loaded, Hardware(accelerator, num_devices, share)).result()
        print(json.dumps(result, indent=1) if as_json else format_estimate(result))

    guarded(work, debug)
