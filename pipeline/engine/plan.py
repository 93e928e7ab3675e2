"""Which stages a run reuses and which it runs, and why: said before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from pipeline.console.terminal_text import printable
from pipeline.engine.artifacts import Identity, Workspace
from pipeline.engine.auto_settings import Settled, settle, with_values
from pipeline.engine.manifests import Manifest, input_digests, warnings_of
from pipeline.engine.reasons import find_reasons, last_seconds
from pipeline.engine.stage import Configuration, Stage, Stages, section_of
from pipeline.engine.work_folders import stage_start
from pipeline.errors import MissingInputError
from pipeline.progress import short_duration

MAX_REASONS = 5
"""Reasons of a stage that the table of a plan gives one by one."""


@dataclass(frozen=True)
class PlannedStage:
    """What is to be done for one stage. `identity` is None while an upstream result is unknown."""

    stage: Stage
    action: str
    reasons: tuple[str, ...] = ()
    identity: Identity | None = None
    manifest: Manifest | None = None
    warnings: tuple[str, ...] = ()
    """What its artifact warns of, or what its settings foretell where it is to be made."""
    against: str = ""
    """The run or artifact from which the reasons are differences, if they are."""
    notes: tuple[str, ...] = ()
    """What was chosen for it on this machine."""
    last_seconds: float | None = None
    """How long it took when this run last had it made, where it is to be made again."""

    @property
    def key(self) -> str | None:
        """Key of the artifact, where it is known."""
        return self.identity.key if self.identity else None

    def as_json(self) -> dict[str, Any]:
        """The line of `plan --json`."""
        told = {"warnings": list(self.warnings), "notes": list(self.notes)}
        why = {"reasons": list(self.reasons), "against": self.against or None}
        own = {"stage": self.stage.name, "key": self.key, "action": self.action}
        return {**own, **why, **told, "last_seconds": self.last_seconds}


@dataclass(frozen=True)
class Selection:
    """Which stages of a pipeline a command asks for, and which to rebuild although they exist."""

    pipeline: Stages
    first: str | None = None
    last: str | None = None
    only: str | None = None
    force: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of the pipeline's stages, in order."""
        return [stage.name for stage in self.pipeline]

    def stages(self) -> Stages:
        """The selected stages, in order."""
        names = self.names
        start = names.index(self.only or self.first or names[0])
        stop = names.index(self.only or self.last or names[-1]) + 1
        return self.pipeline[start:stop]

    def sections(self) -> tuple[str, ...]:
        """The sections of a configuration that matter to the selected stages."""
        return ("run", *(stage.name for stage in (*self.upstream_of(), *self.stages())))

    def upstream_of(self) -> Stages:
        """Stages outside the selection whose artifacts the selected ones need, directly or not, in order."""
        selected = {stage.name for stage in self.stages()}
        needed = {name for stage in self.stages() for name in stage.upstream} - selected
        for stage in reversed(self.pipeline):
            if stage.name in needed:
                needed |= set(stage.upstream) - selected
        return tuple(stage for stage in self.pipeline if stage.name in needed)


def plan(config: Configuration, selection: Selection) -> list[PlannedStage]:
    """What a run would do with each selected stage, and why. Runs nothing.

    Raises MissingInputError when a stage outside the selection lacks its artifact.
    """
    return plan_settled(settle(config), Workspace(config.run.workspace, selection.pipeline), selection)


def plan_settled(settled: Settled, workspace: Workspace, selection: Selection) -> list[PlannedStage]:
    """`plan` of a configuration that leaves nothing to the machine."""
    manifests = upstream_manifests(settled.config, workspace, selection)
    steps = []
    for stage in selection.stages():
        step = plan_stage(stage, settled.config, workspace, manifests, forced=stage.name in selection.force)
        if step.action == "reuse" and step.manifest is not None:
            manifests[stage.name] = step.manifest
        section = section_of(settled.config, stage)
        warnings = warnings_of(step.manifest) if step.manifest is not None else stage.early_warnings(section)
        notes, is_made = settled.notes.get(stage.name, ()), step.action in ("run", "unknown")
        seconds = last_seconds(workspace, settled.config.run.name, stage.name) if is_made else None
        steps.append(replace(step, warnings=tuple(warnings), notes=notes, last_seconds=seconds))
    return steps


def upstream_manifests(config: Configuration, workspace: Workspace, selection: Selection) -> dict[str, Manifest]:
    """Manifests of the artifacts outside the selection that it needs. Raises MissingInputError when one is missing."""
    manifests: dict[str, Manifest] = {}
    for stage in selection.upstream_of():
        step = plan_stage(stage, config, workspace, manifests, forced=False)
        if step.manifest is None:
            reason = f" ({'; '.join(step.reasons)})" if step.reasons else ""
            raise MissingInputError(
                f"{stage.name}: its artifact is needed but is not in the workspace{reason}; "
                f"run without --from/--only, or with --from {stage.name}"
            )
        manifests[stage.name] = step.manifest
    return manifests


def plan_stage(
    stage: Stage, config: Configuration, workspace: Workspace, manifests: Mapping[str, Manifest], forced: bool
) -> PlannedStage:
    """What is to be done for one stage, given the manifests of those before it."""
    checkpointing = stage.checkpointing
    if waiting := [name for name in stage.upstream if name not in manifests]:
        section = section_of(config, stage)
        stage.source_files(section)  # what is wrong there would otherwise end the run after hours of work
        if (
            checkpointing is not None
            and (missing := checkpointing.missing_settings(section))
            and not workspace.manifests(stage.name)
        ):
            raise MissingInputError(missing)
        last = next(name for name in reversed([one.name for one in workspace.stages]) if name in waiting)
        return PlannedStage(stage, "unknown", (f"whether it has to run is known once {last} has run",))
    config = with_choices(stage, config, workspace, manifests)
    identity = identify(stage, config, workspace, manifests)
    manifest, problem = workspace.find(stage.name, identity.key)
    against = ""
    if manifest is not None and not forced:
        return PlannedStage(stage, "reuse", identity=identity, manifest=manifest)
    if forced and manifest is not None:
        reasons: tuple[str, ...] = ("forced",)
    elif problem:
        reasons = (problem,)
    else:
        reasons, against = find_reasons(workspace, config.run.name, identity)
    if checkpointing is None or forced:
        return PlannedStage(stage, "run", reasons, identity, against=against)
    start = stage_start(stage, section_of(config, stage), identity, workspace, manifests)
    found, remarks = checkpointing.find_continuation(start)
    if found is not None:
        point = checkpointing.describe(found.checkpoint)
        return PlannedStage(stage, f"resume ({point})", (*filter(None, [problem]), found.reason), identity)
    point = checkpointing.resume_point(start.work) or ""
    return PlannedStage(stage, f"resume ({point})" if point else "run", (*reasons, *remarks), identity, against=against)


def with_choices(
    stage: Stage, config: Configuration, workspace: Workspace, manifests: Mapping[str, Manifest]
) -> Configuration:
    """The configuration with the settings that a long stage takes from other work in the workspace."""
    section = section_of(config, stage)
    if stage.checkpointing is None or not stage.checkpointing.missing_settings(section):
        return config
    start = stage_start(stage, section, identify(stage, config, workspace, manifests), workspace, manifests)
    chosen = stage.checkpointing.choose_settings(start)
    changed: Configuration = with_values(config, {stage.name: with_values(section, chosen)})
    return changed


def identify(stage: Stage, config: Configuration, workspace: Workspace, manifests: Mapping[str, Manifest]) -> Identity:
    """A stage's identity, given the manifests of its upstream stages."""
    section = section_of(config, stage)
    seed = config.run.seed if stage.uses_seed(config) else None
    return workspace.identify(stage, section, seed, input_digests(stage, manifests))


def format_plan(steps: Sequence[PlannedStage]) -> str:
    """The plan as a table for people: stage, action, reason. Below it stands what was chosen on this machine, and
    how long the stages that are to run took before. Of the
    stages that wait for a result only the first is listed."""
    waiting = [step for step in steps if step.action == "unknown"]
    others = ", ".join(step.stage.name for step in waiting[1:])
    lines = []
    for step in steps:
        if step in waiting[1:]:
            continue
        key = step.key or ""
        reasons = list(step.reasons[:MAX_REASONS])
        if more := step.reasons[MAX_REASONS:]:
            reasons.append(f"and {len(more)} more, which `descent explain` lists")
        if step in waiting and others:
            reasons.append(f"the same for {others}")
        told = printable("; ".join(reasons)) + (f"  (against {step.against})" if step.against else "")
        lines.append(f"{step.stage.name:<10} {step.action:<8} {key:<17}{told}".rstrip())
    lines += [printable(f"warning: {step.stage.name}: {warning}") for step in steps for warning in step.warnings]
    lines += [printable(note) for step in steps for note in step.notes]
    times = {step.stage.name: step.last_seconds for step in steps if step.last_seconds is not None}
    if times:
        parts = ", ".join(f"{name} {short_duration(seconds)}" for name, seconds in times.items())
        lines.append(f"last time in this run: {parts}" + f" ({short_duration(sum(times.values()))})" * (len(times) > 1))
    return "\n".join(lines)


def explain(config: Configuration, selection: Selection) -> str:
    """The whole identity of the one stage that is selected, and how it differs from the nearest earlier artifact, as
    text. Raises MissingInputError when an upstream artifact is missing, since the identity is then unknown."""
    settled, workspace = settle(config), Workspace(config.run.workspace, selection.pipeline)
    (stage,) = selection.stages()
    manifests = upstream_manifests(settled.config, workspace, selection)
    step = plan_stage(stage, settled.config, workspace, manifests, forced=False)
    assert step.identity is not None
    reasons = f"\nagainst {step.against}:" if step.against else ""
    reasons += "".join(f"\n  {printable(reason)}" for reason in step.reasons)
    reasons += "".join(f"\n{printable(note)}" for note in settled.notes.get(stage.name, ()))
    identity = yaml.safe_dump(step.identity.payload, sort_keys=False, allow_unicode=True)
    return f"{stage.name}  {step.action}  {step.key}{reasons}\n\n{identity}".rstrip()
