"""The training of a run as it lies in the workspace: what it has of single steps, while it trains and afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.engine.artifacts import Workspace
from pipeline.engine.manifests import read_manifest
from pipeline.engine.run_json import IN_PROGRESS, key_of, read_run_json
from pipeline.engine.work_folders import identity_of
from pipeline.errors import DamageError, DivergedError, MissingInputError
from pipeline.telemetry.anatomy import read_anatomy, recorded_steps
from pipeline.tokens.mixing import Epoch, read_mixture
from pipeline.training.checkpointing.checkpoints import list_checkpoints, problem_of, step_of
from pipeline.training.train_config import TrainConfig

if TYPE_CHECKING:
    from pipeline.telemetry.anatomy import Anatomy
    from pipeline.training.dissection import Subject

MOST_LISTED = 12
"""Steps that an error names."""


@dataclass(frozen=True)
class TrainingOfRun:
    """The training of a run's last attempt. `identity` is what it was asked for, `inputs` has the folders of the
    artifacts that it reads."""

    name: str
    work: Path
    artifact: Path
    identity: dict[str, Any]
    inputs: dict[str, Path]

    @cached_property
    def records(self) -> dict[int, Path]:
        """Folders of the anatomies that the training recorded, by step."""
        return {step: folder for folder in (self.artifact, self.work) for step in recorded_steps(folder)}

    @cached_property
    def checkpoints(self) -> dict[int, Path]:
        """By step."""
        return {step_of(path): path for path in list_checkpoints(self.work)}

    @cached_property
    def exported(self) -> int | None:
        """The step of the weights that became the run's model; None before that."""
        try:
            return int(json.loads((self.artifact / "training.json").read_bytes())["exported_step"])
        except (OSError, ValueError, LookupError, TypeError):
            return None

    @property
    def steps(self) -> list[int]:
        """Steps of which there is anything to take apart."""
        return sorted({*self.records, *self.checkpoints, *([] if self.exported is None else [self.exported])})

    def anatomy(self, step: int | None, say: Callable[[str], None]) -> Anatomy:
        """The anatomy of a step, by default of the `telling_step`: as the training recorded it, or else from a
        checkpoint, or from the weights that were exported, whose optimizer is gone.

        Raises MissingInputError for a step that is not there, DamageError for a broken checkpoint, DivergedError where
        the loss is not finite, and ConfigError for a model that is too large or quantized.
        """
        chosen = self._choose(step)
        if chosen in self.records and (found := read_anatomy(self.records[chosen], chosen)) is not None:
            return found
        from pipeline.training.dissection import dissect

        say(f"taking step {chosen:,} apart, on a copy")
        subject = self._subject(chosen)
        try:
            return dissect(subject)
        except ValueError as error:
            raise DivergedError(f"anatomy: step {chosen}: {error}; take an earlier one: {self.listed}") from None

    @property
    def telling_step(self) -> int:
        """Of the recorded steps, or else of all, the one nearest the middle of the training: before it little is
        learned, and after it the learning rate goes down to where an update hardly changes the loss."""
        known = sorted(self.records) or self.steps
        return min(known, key=lambda step: (abs(2 * step - self.steps[-1]), step))

    def _choose(self, step: int | None) -> int:
        if not self.steps:
            raise MissingInputError(
                f"anatomy: run {self.name} has no checkpoint yet; train.save_steps says how often one is saved"
            )
        if step is not None and step not in self.steps:
            raise MissingInputError(f"--step {step}: run {self.name} has nothing of that step; it has {self.listed}")
        return self.telling_step if step is None else step

    @property
    def listed(self) -> str:
        """The steps in words: `0, 10 and 24`."""
        shown = [str(step) for step in self.steps]
        if len(shown) > MOST_LISTED:
            shown = [*shown[: MOST_LISTED // 2], "...", *shown[-MOST_LISTED // 2 :]]
        return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else f"{shown[0]} alone"

    def _subject(self, step: int) -> Subject:
        from pipeline.evaluation.trained_model import pick_device
        from pipeline.tasks import task_of_split
        from pipeline.training.anatomies import subject_of_checkpoint, subject_of_model

        config, device = TrainConfig(**self.identity["section"]), pick_device()
        pack, encode, model = (self.inputs[stage] for stage in ("pack", "encode", "model"))
        task = task_of_split(pack, "train")
        validation = task.open_split(pack, encode, "validation")
        if step not in self.checkpoints:
            return subject_of_model(self.artifact / "model", step, config, task, validation, device)
        if problem := problem_of(self.checkpoints[step]):
            raise DamageError(f"{self.checkpoints[step]}: {problem}; take another step: {self.listed}")
        epoch = Epoch.of(task.open_split(pack, encode, "train"), read_mixture(pack))
        seed = int(self.identity["seed"])
        return subject_of_checkpoint(self.checkpoints[step], config, task, epoch, validation, model, seed, device)


def training_of_run(workspace: Workspace, name: str, how_to_run: str) -> TrainingOfRun:
    """The training of the last attempt of a run. Raises MissingInputError where the run, or what its training reads, is
    not there."""
    state = read_run_json(workspace.run(name))
    if state is None:
        raise MissingInputError(f"{workspace.run(name)}: there is no run {name} yet; {how_to_run} begins it")
    key = key_of(state["stages"], "train") or state.get(IN_PROGRESS)
    if key is None:
        raise MissingInputError(f"anatomy: run {name} has not begun to train; {how_to_run} goes on with it")
    work, artifact = workspace.checkpoints(str(key)), workspace.artifact("train", str(key))
    identity = read_manifest(artifact) or identity_of(work)
    if identity is None:
        raise MissingInputError(f"{work}: nothing is left of this training; {how_to_run} trains anew")
    keys = identity.get("input_keys") or {
        stage: key_of(state["stages"], stage) for stage in ("pack", "encode", "model")
    }
    inputs = {stage: workspace.artifact(stage, str(one)) for stage, one in keys.items()}
    if missing := [str(folder) for folder in inputs.values() if not folder.is_dir()]:
        raise MissingInputError(f"{missing[0]} is missing, which the training reads; {how_to_run} makes it again")
    return TrainingOfRun(name, work, artifact, identity, inputs)
