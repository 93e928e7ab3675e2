"""`descent ablate`: what a change of settings does on held-out text."""

from __future__ import annotations

import json
import re
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.console.error_exit import guarded
from pipeline.errors import ConfigError
from pipeline.verbs.command_options import ConfigArgument, DebugOption

if TYPE_CHECKING:
    from pipeline.comparison.ablation import Arm
    from pipeline.config import Config

SET_BY_ITSELF = ("run.seed", "run.name", "run.workspace")
LONGEST_NAME = 40


def ablate(
    config: ConfigArgument,
    changes: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="The settings whose worth is asked for, changed.")
    ],
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=100, help="Pairs of runs, each with its own seed.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    debug: DebugOption = False,
) -> None:
    """Say what a change of settings does: pairs of runs, compared on the test documents."""

    def work() -> None:
        from pipeline.comparison.ablation import compare_arms, format_ablation, shared_documents

        plain = _load(config, ())
        first = plain.run.seed
        settings = {seed: _settings_of(plain.run.name, seed, changes) for seed in range(first, first + seeds)}
        pairs: dict[int, list[Arm]] = {}
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            # Whether there is enough to compare is known before any training.
            tried = [_run(_load(config, words), "curate") for words in settings[first]]
            if all(tried):
                shared_documents([arm.tests for arm in tried if arm])
            for seed, of_arms in settings.items():
                arms = [_run(_load(config, words), "evaluate") for words in of_arms]
                pairs[seed] = [arm for arm in arms if arm]
        if all(len(pair) == len(settings[first]) for pair in pairs.values()):
            found = compare_arms(changes, pairs)
            print(json.dumps(found, indent=1) if as_json else "\n" + format_ablation(found))

    guarded(work, debug)


def _load(path: Path, words: tuple[str, ...]) -> Config:
    """The configuration with settings. Raises ConfigError when its model has no bits per byte."""
    from pipeline.config.loading import load_config
    from pipeline.modeling.model_config import DEFAULT_TASK

    config = load_config(path, words)
    if config.model.task != DEFAULT_TASK:
        raise ConfigError(f"ablate compares bits per byte, which model.task {config.model.task} does not have")
    return config


def _settings_of(name: str, seed: int, changes: list[str]) -> list[tuple[str, ...]]:
    """What the two runs of a seed set otherwise than the file."""
    for change in changes:
        if "=" not in change:
            raise ConfigError(f"ablate: {change} is no setting; write KEY=VALUE")
        if change.partition("=")[0].strip() in SET_BY_ITSELF:
            raise ConfigError(f"ablate gives each run its name and seed; leave {change} out")
    label = re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(changes)).strip("-.")[:LONGEST_NAME]
    own = f"{name[: 99 - LONGEST_NAME - 22]}-ablate-{seed}"
    return [
        (f"run.seed={seed}", f"run.name={own}-base"),
        (f"run.seed={seed}", f"run.name={own}-{label}", *changes),
    ]


def _run(config: Config, last: str) -> Arm | None:
    """Carry out a run up to a stage. None in all processes of a launch but the first."""
    from pipeline.comparison.ablation import Arm
    from pipeline.engine import runner
    from pipeline.engine.plan import Selection
    from pipeline.stages import STAGES

    selection = Selection(STAGES, last=last)
    print(f"\n{config.run.name}", flush=True)
    view = runner.run(config, selection)
    if view is None:
        return None
    curated = view.artifact("curate")
    assert curated is not None
    return Arm(config.run.name, curated / "test", view.artifact("evaluate"))
