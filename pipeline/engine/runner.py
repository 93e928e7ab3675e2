"""Walk the stages: reuse, wait or run; and say which and why before starting."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from pipeline import atomic
from pipeline.config import Config
from pipeline.config.settled import Settled, settle, with_values
from pipeline.console.printable import printable
from pipeline.engine.artifacts import Identity, Workspace
from pipeline.engine.continuing import begin_work, check_rewarmable, find_continuation, find_rewarmed
from pipeline.engine.damage import blaming_inputs, check_inputs
from pipeline.engine.launches.follower import Follower
from pipeline.engine.launches.launch import Launch, Task
from pipeline.engine.launches.leader import Alone, Leader
from pipeline.engine.launches.sweeping import sweep
from pipeline.engine.manifests import Manifest, describe_changes, in_short, input_digests, seal, warnings_of
from pipeline.engine.reasons import find_reasons, tell_repeated
from pipeline.engine.runs import RunView, running
from pipeline.errors import BadDataError, MissingInputError, storage_errors
from pipeline.intact import MANIFEST
from pipeline.machine import num_cores
from pipeline.progress import Progress
from pipeline.stages import STAGES, Stage, StageContext
from pipeline.training.launcher_flags import check_launcher

MAX_REASONS = 5
"""Reasons of a stage that the table of a plan gives one by one."""

NAMES = tuple(stage.name for stage in STAGES)


@dataclass(frozen=True)
class Step:
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

    @property
    def key(self) -> str | None:
        """Key of the artifact, where it is known."""
        return self.identity.key if self.identity else None

    def as_json(self) -> dict[str, Any]:
        """The line of `plan --json`."""
        told = {"warnings": list(self.warnings), "notes": list(self.notes)}
        why = {"reasons": list(self.reasons), "against": self.against or None}
        return {"stage": self.stage.name, "key": self.key, "action": self.action, **why, **told}


@dataclass(frozen=True)
class Selection:
    """Which stages a command asks for: all, a range, one; and which to rebuild although they exist."""

    first: str | None = None
    last: str | None = None
    only: str | None = None
    force: tuple[str, ...] = field(default=())

    def stages(self) -> tuple[Stage, ...]:
        """The selected stages, in order."""
        start = NAMES.index(self.only or self.first or NAMES[0])
        stop = NAMES.index(self.only or self.last or NAMES[-1]) + 1
        return STAGES[start:stop]

    def sections(self) -> tuple[str, ...]:
        """The sections of a configuration that matter to the selected stages."""
        return ("run", *(stage.name for stage in (*self.upstream_of(), *self.stages())))

    def upstream_of(self) -> tuple[Stage, ...]:
        """Stages outside the selection whose artifacts the selected ones need, directly or not, in order."""
        selected = {stage.name for stage in self.stages()}
        needed = {name for stage in self.stages() for name in stage.upstream} - selected
        for stage in reversed(STAGES):
            if stage.name in needed:
                needed |= set(stage.upstream) - selected
        return tuple(stage for stage in STAGES if stage.name in needed)


def plan(config: Config, workspace: Workspace, selection: Selection) -> list[Step]:
    """What a run would do with each selected stage, and why. Runs nothing.

    Raises MissingInputError when a stage outside the selection lacks its artifact.
    """
    return _plan(settle(config), workspace, selection)


def _plan(settled: Settled, workspace: Workspace, selection: Selection) -> list[Step]:
    manifests = _upstream(settled.config, workspace, selection)
    steps = []
    for stage in selection.stages():
        step = _plan_stage(stage, settled.config, workspace, manifests, forced=stage.name in selection.force)
        if step.action == "reuse" and step.manifest is not None:
            manifests[stage.name] = step.manifest
        section = getattr(settled.config, stage.name)
        steps.append(replace(step, warnings=_warnings(step, section), notes=settled.notes.get(stage.name, ())))
    return steps


def _warnings(step: Step, section: Any) -> tuple[str, ...]:
    if step.manifest is not None:
        return tuple(warnings_of(step.manifest))
    return tuple(step.stage.foresee(section)) if step.stage.foresee is not None else ()


def _upstream(config: Config, workspace: Workspace, selection: Selection) -> dict[str, Manifest]:
    """Manifests of the artifacts outside the selection that it needs. Raises MissingInputError when one is missing."""
    manifests: dict[str, Manifest] = {}
    for stage in selection.upstream_of():
        step = _plan_stage(stage, config, workspace, manifests, forced=False)
        if step.manifest is None:
            reason = f" ({'; '.join(step.reasons)})" if step.reasons else ""
            raise MissingInputError(
                f"{stage.name}: its artifact is needed but is not in the workspace{reason}; "
                f"run without --from/--only, or with --from {stage.name}"
            )
        manifests[stage.name] = step.manifest
    return manifests


def _plan_stage(
    stage: Stage, config: Config, workspace: Workspace, manifests: Mapping[str, Manifest], forced: bool
) -> Step:
    waiting = [name for name in stage.upstream if name not in manifests]
    if waiting:
        stage.files(getattr(config, stage.name))  # what is wrong there would otherwise end the run after hours of work
        if stage.resume_point is not None:
            check_rewarmable(config.train, workspace)
        return Step(stage, "unknown", (f"until {max(waiting, key=NAMES.index)} has run",))
    config = _with_rewarmed(stage, config, workspace, manifests)
    identity = identify(stage, config, workspace, manifests)
    manifest, problem = workspace.find(stage.name, identity.key)
    against = ""
    if manifest is not None and not forced:
        return Step(stage, "reuse", identity=identity, manifest=manifest)
    if forced and manifest is not None:
        reasons: tuple[str, ...] = ("forced",)
    elif problem:
        reasons = (problem,)
    else:
        reasons, against = find_reasons(workspace, config.run.name, identity)
    if stage.resume_point is None or forced:
        return Step(stage, "run", reasons, identity, against=against)
    found, why_not = find_continuation(config.train, identity, workspace, manifests["pack"])
    if found is not None:
        return Step(stage, f"resume (step {found.step})", (*filter(None, [problem]), found.reason), identity)
    point = stage.resume_point(workspace.checkpoints(identity.key))
    return Step(stage, f"resume ({point})" if point else "run", (*reasons, *why_not), identity, against=against)


def _with_rewarmed(stage: Stage, config: Config, workspace: Workspace, manifests: Mapping[str, Manifest]) -> Config:
    """The configuration with the trainings that one goes on from which is re-warmed, where it leaves them open."""
    section = config.train
    if stage.resume_point is None or section.rewarm_steps is None or section.rewarm_from:
        return config
    found = find_rewarmed(section, identify(stage, config, workspace, manifests), workspace, manifests["pack"])
    return with_values(config, {"train": with_values(section, {"rewarm_from": found})})


def identify(stage: Stage, config: Config, workspace: Workspace, manifests: Mapping[str, Manifest]) -> Identity:
    """A stage's identity, given the manifests of its upstream stages."""
    section = getattr(config, stage.name)
    seed = config.run.seed if stage.draws(config) else None
    return workspace.identify(stage, section, seed, input_digests(stage, manifests))


def format_plan(steps: Sequence[Step]) -> str:
    """The plan as a table for people: stage, action, and the reason; below it what was chosen on this machine. Of the
    stages that wait for a result, the first stands for all."""
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
            reasons.append(f"so are {others}")
        told = printable("; ".join(reasons)) + (f"  (against {step.against})" if step.against else "")
        lines.append(f"{step.stage.name:<10} {step.action:<8} {key:<17}{told}".rstrip())
    lines += [printable(f"warning: {step.stage.name}: {warning}") for step in steps for warning in step.warnings]
    lines += [printable(note) for step in steps for note in step.notes]
    return "\n".join(lines)


def run(config: Config, selection: Selection) -> RunView | None:
    """Carry out the selected stages, reusing what exists; returns the run's view.

    Under a launcher of several processes, process 0 does so; the others take part in the stages that are distributed,
    and get None. Raises the errors of pipeline.errors; the outcome is also written into the run's run.json.
    """
    launch = Launch.of(os.environ)
    check_launcher(config.train, os.environ)
    workspace = Workspace(config.run.workspace)
    digest = atomic.digest_json(config.values())
    with storage_errors(workspace.root):
        if launch.index > 0:
            with Follower(launch, workspace.root, digest) as follower:
                _take_part(config, workspace, follower)
            return None
        sweep(workspace.root)
        with Leader(launch, workspace.root, digest) if launch.count > 1 else nullcontext(Alone()) as others:
            settled = settle(config)
            check_launcher(settled.config.train, os.environ, settled.chosen.get("train", ()))
            with running(workspace, settled.config, partial(wait, "run")) as view:
                steps = _plan(settled, workspace, selection)
                print(format_plan(steps), flush=True)
                _check_sections(settled.config, steps)
                _execute(Work(settled.config, settled.chosen, workspace, view, launch, others), selection)
    return view


def _check_sections(config: Config, steps: Sequence[Step]) -> None:
    """Raises ConfigError now for what would end the run in a late stage, after hours of data work."""
    for step in steps:
        if step.action != "reuse" and step.stage.check is not None:
            step.stage.check(config)


@dataclass(frozen=True)
class Work:
    """What building needs beside a stage: the configuration, what of it was chosen on this machine, where results go,
    and who else takes part."""

    config: Config
    chosen: Mapping[str, Mapping[str, Any]]
    workspace: Workspace
    view: RunView
    launch: Launch
    others: Leader | Alone


def _execute(work: Work, selection: Selection) -> None:
    manifests = _upstream(work.config, work.workspace, selection)
    for name, manifest in manifests.items():
        _reuse(work, name, manifest)
    for stage in selection.stages():
        forced = stage.name in selection.force
        config = _with_rewarmed(stage, work.config, work.workspace, manifests)
        if config is not work.config:
            work.view.configure(config)
            origin = [one.model_dump() for one in config.train.rewarm_from]
            chosen = {**work.chosen.get(stage.name, {}), "rewarm_from": origin}
            work = replace(work, config=config, chosen={**work.chosen, stage.name: chosen})
        step = _plan_stage(stage, work.config, work.workspace, manifests, forced)
        if step.manifest is not None:
            manifests[stage.name] = step.manifest
            _reuse(work, stage.name, step.manifest)
            continue
        assert step.identity is not None, f"{stage.name} comes before one of its inputs in STAGES"
        manifests[stage.name] = _build(stage, step.identity, work, manifests, forced)


def _reuse(work: Work, stage: str, manifest: Manifest) -> None:
    work.workspace.tidy(stage, manifest["key"])
    work.view.record(stage, manifest, "reused")


def _build(stage: Stage, identity: Identity, work: Work, manifests: Mapping[str, Manifest], forced: bool) -> Manifest:
    """Build one artifact under its lock, or take the one that another process built meanwhile."""
    config, workspace, view = work.config, work.workspace, work.view
    section = getattr(config, stage.name)
    progress = Progress(stage.name)
    with workspace.lock(stage.name, identity.key, partial(wait, stage.name)):
        earlier, _ = workspace.find(stage.name, identity.key)
        if earlier is not None and not forced:
            view.record(stage.name, earlier, "reused")
            return earlier
        checked = True
        if stage.resume_point:
            checked = begin_work(config.train, identity, workspace, manifests["pack"], progress.say, forced)
            view.show_progress_of(workspace.checkpoints(identity.key))
        started = time.time()
        progress.say("started")
        keys = {name: manifests[name]["key"] for name in stage.upstream}
        task = Task(stage.name, identity.key, keys, work.chosen.get(stage.name, {}))
        go_on = partial(_going_on, stage, workspace, identity.key)
        together = work.others.together(task, view.fail, go_on) if stage.distributed else nullcontext()
        with workspace.building(stage.name, identity.key) as output:
            with blaming_inputs(workspace, task):
                check_inputs(workspace, stage, manifests)
            with blaming_inputs(workspace, task), together:
                context = _context(stage, task, config, workspace, output, progress, work.launch)
                summary = stage.run(replace(context, fail=view.fail))
            _check_sources(identity, identify(stage, config, workspace, manifests))
            manifest = seal(output, stage, identity, section, task.inputs, summary, started, checked)
    for warning in warnings_of(manifest):
        progress.say(f"warning: {warning}")
    progress.say(f"done in {manifest['seconds']:.1f} s{in_short(manifest['summary'])}")
    for what in ("rejected", "dropped"):
        if manifest["summary"].get(what):
            progress.say(f"what was {what} is listed in {workspace.artifact(stage.name, identity.key) / what}.jsonl")
    if earlier is not None:
        tell_repeated(progress, earlier, manifest)
    view.record(stage.name, manifest, "built")
    return manifest


def _going_on(stage: Stage, workspace: Workspace, key: str) -> str:
    """What to type after a stage was cut off, and from where it would go on."""
    point = stage.resume_point(workspace.checkpoints(key)) if stage.resume_point is not None else None
    return "run again to go on" + (f" from {point}" if point else "")


def _take_part(config: Config, workspace: Workspace, follower: Follower) -> None:
    """Carry out the stages that process 0 announces, until it is done. Leaves every result and word to process 0."""
    for task in follower.tasks():
        stage = STAGES[NAMES.index(task.stage)]
        follower.wait_for([workspace.artifact(name, key) / MANIFEST for name, key in task.inputs.items()])
        with (
            follower.taking_part(partial(_going_on, stage, workspace, task.key)),
            warnings.catch_warnings(action="ignore"),
            TemporaryDirectory() as output,
            open(os.devnull, "w") as silence,
        ):
            progress = Progress(stage.name, silence)
            stage.run(_context(stage, task, config, workspace, Path(output), progress, follower.launch))


def _context(
    stage: Stage,
    task: Task,
    config: Config,
    workspace: Workspace,
    output: Path,
    progress: Progress,
    launch: Launch,
) -> StageContext:
    section = getattr(config, stage.name)
    if task.chosen:  # In the other processes the configuration still leaves open what process 0 chose.
        section = type(section).model_validate({**section.model_dump(by_alias=True), **task.chosen})
    return StageContext(
        config=section,
        seed=config.run.seed if stage.draws(config) else 0,
        inputs={name: workspace.artifact(name, key) for name, key in task.inputs.items()},
        output=output,
        work=workspace.checkpoints(task.key) if stage.resume_point else None,
        num_workers=config.run.num_workers or num_cores(),
        progress=progress,
        process_index=launch.index if stage.distributed else 0,
        num_processes=launch.count if stage.distributed else 1,
        chosen=task.chosen,
        run_name=config.run.name,
        run_settings=config.values(),
    )


def explain(config: Config, workspace: Workspace, stage: Stage) -> str:
    """A stage's identity in full, and what differs from its nearest earlier artifact, as text.

    Raises MissingInputError when an upstream artifact is missing, for then the identity is not known.
    """
    settled = settle(config)
    manifests = _upstream(settled.config, workspace, Selection(only=stage.name))
    step = _plan_stage(stage, settled.config, workspace, manifests, forced=False)
    assert step.identity is not None
    reasons = f"\nagainst {step.against}:" if step.against else ""
    reasons += "".join(f"\n  {printable(reason)}" for reason in step.reasons)
    reasons += "".join(f"\n{printable(note)}" for note in settled.notes.get(stage.name, ()))
    identity = yaml.safe_dump(step.identity.payload, sort_keys=False, allow_unicode=True)
    return f"{stage.name}  {step.action}  {step.key}{reasons}\n\n{identity}".rstrip()


def wait(what: str, holder: str) -> None:
    """Say that somebody else is at it."""
    Progress(what).say(f"waiting for {holder}, which is at the same work")


def _check_sources(before: Identity, after: Identity) -> None:
    """Raises BadDataError when a source file was changed while a stage read it: the result would be of neither."""
    if before.key != after.key:
        changed = describe_changes("source", before.payload["files_in"], after.payload["files_in"])
        raise BadDataError(f"{before.payload['stage']}: {'; '.join(changed)} while it was read; run again")
