"""Carry out a plan: reuse, wait or build, stage after stage."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline import atomic
from pipeline.engine.artifacts import Identity, Workspace
from pipeline.engine.auto_settings import settle
from pipeline.engine.differences import describe_changes
from pipeline.engine.launches.follower import Follower
from pipeline.engine.launches.launch import Launch, StageAssignment
from pipeline.engine.launches.leader import Alone, Leader
from pipeline.engine.launches.sweeping import sweep
from pipeline.engine.lineage import blaming_inputs, check_inputs
from pipeline.engine.manifests import Manifest, seal, warnings_of
from pipeline.engine.plan import (
    Selection,
    format_plan,
    identify,
    plan_settled,
    plan_stage,
    upstream_manifests,
    with_choices,
)
from pipeline.engine.reasons import tell_repeated
from pipeline.engine.run_view import RunView, running
from pipeline.engine.stage import Configuration, Stage, StageContext, section_of
from pipeline.engine.work_folders import begin_work, stage_start
from pipeline.errors import BadDataError, storage_errors
from pipeline.executors.jobs import Session
from pipeline.integrity import MANIFEST
from pipeline.machine import num_cores
from pipeline.progress import Progress


def run(config: Configuration, selection: Selection) -> RunView | None:
    """Carry out the selected stages, reusing what exists; returns the run's view.

    Under a launcher of several processes, process 0 does so; the others take part in the stages that are distributed,
    and get None. Raises the errors of pipeline.errors; the outcome is also written into the run's run.json.
    """
    launch = Launch.of(os.environ)
    _check_launch(config, {}, selection)
    workspace = Workspace(config.run.workspace, selection.pipeline)
    digest = atomic.digest_json(config.values())
    with storage_errors(workspace.root):
        if launch.index == 0:
            return _lead(config, selection, workspace, launch, digest)
        with Follower(launch, workspace.root, digest) as follower:
            _take_part(config, workspace, follower)
    return None


def _lead(config: Configuration, selection: Selection, workspace: Workspace, launch: Launch, digest: str) -> RunView:
    """Plan and carry out a run, with the other processes of the launch where a stage is distributed."""
    sweep(workspace.root)
    with Leader(launch, workspace.root, digest) if launch.count > 1 else nullcontext(Alone()) as others:
        settled = settle(config)
        _check_launch(settled.config, settled.chosen, selection)
        with running(workspace, settled.config, partial(wait, "run")) as view:
            planned = plan_settled(settled, workspace, selection)
            print(format_plan(planned), flush=True)
            # What these find would otherwise end the run in a late stage, after hours of work.
            to_build = [one.stage for one in planned if one.action != "reuse"]
            for stage in to_build:
                stage.check(settled.config)
            executor = settled.config.run.executor
            if any(stage.works_on_shards for stage in to_build):
                executor.check()
            with executor.session(settled.config.run.num_workers or num_cores()) as session:
                context = RunContext(settled.config, settled.chosen, workspace, view, launch, others, session)
                _execute(context, selection)
    return view


def _check_launch(config: Configuration, chosen: Mapping[str, Mapping[str, Any]], selection: Selection) -> None:
    """Raises ConfigError when the launcher was asked for what a stage cannot do."""
    for stage in selection.pipeline:
        stage.check_launch(section_of(config, stage), os.environ, chosen.get(stage.name, ()))


@dataclass(frozen=True)
class RunContext:
    """What building needs beside a stage."""

    config: Configuration

    chosen: Mapping[str, Mapping[str, Any]]
    """Settings that were chosen on this machine, by stage."""

    workspace: Workspace
    view: RunView
    launch: Launch

    others: Leader | Alone
    """Who else takes part in stages that are distributed."""

    session: Session
    """Who carries out jobs on shards, for all stages."""


def _execute(context: RunContext, selection: Selection) -> None:
    manifests = upstream_manifests(context.config, context.workspace, selection)
    for name, manifest in manifests.items():
        _reuse(context, name, manifest)
    for stage in selection.stages():
        forced = stage.name in selection.force
        context = _with_choices(stage, context, manifests)
        planned = plan_stage(stage, context.config, context.workspace, manifests, forced)
        if planned.manifest is not None:
            manifests[stage.name] = planned.manifest
            _reuse(context, stage.name, planned.manifest)
            continue
        assert planned.identity is not None
        manifests[stage.name] = _build(stage, planned.identity, context, manifests, forced)


def _with_choices(stage: Stage, context: RunContext, manifests: Mapping[str, Manifest]) -> RunContext:
    """What a long stage chooses from other work counts as chosen, and stands in the run's config.yaml."""
    config = with_choices(stage, context.config, context.workspace, manifests)
    if config is context.config:
        return context
    context.view.configure(config)
    before, now = (section_of(one, stage).model_dump(mode="json", by_alias=True) for one in (context.config, config))
    changed = {name: value for name, value in now.items() if before[name] != value}
    chosen = {**context.chosen, stage.name: {**context.chosen.get(stage.name, {}), **changed}}
    return replace(context, config=config, chosen=chosen)


def _reuse(context: RunContext, stage: str, manifest: Manifest) -> None:
    context.workspace.tidy(stage, manifest["key"])
    context.view.record(stage, manifest, "reused")


def _build(
    stage: Stage, identity: Identity, context: RunContext, manifests: Mapping[str, Manifest], forced: bool
) -> Manifest:
    """Build one artifact under its lock, or take the one that another process built meanwhile."""
    workspace, progress = context.workspace, Progress(stage.name)
    with workspace.lock(stage.name, identity.key, partial(wait, stage.name)):
        earlier, _ = workspace.find(stage.name, identity.key)
        if earlier is not None and not forced:
            context.view.record(stage.name, earlier, "reused")
            return earlier
        checked = True
        if stage.checkpointing is not None:
            start = stage_start(stage, section_of(context.config, stage), identity, workspace, manifests)
            checked = begin_work(stage, start, identity, workspace, progress.say, forced)
            context.view.show_progress_of(stage, start.work)
        progress.say("started")
        manifest = _run_stage(stage, identity, context, manifests, progress, checked)
    _report(stage, manifest, workspace.artifact(stage.name, identity.key), progress)
    if earlier is not None:
        tell_repeated(progress, earlier, manifest)
    context.view.record(stage.name, manifest, "built")
    return manifest


def _run_stage(
    stage: Stage,
    identity: Identity,
    context: RunContext,
    manifests: Mapping[str, Manifest],
    progress: Progress,
    checked: bool,
) -> Manifest:
    """Check the inputs, run a stage and seal what it wrote, all in a folder that becomes the artifact at the end.
    `checked` tells whether all inputs of the work that it goes on from were checked."""
    config, workspace, fail = context.config, context.workspace, context.view.fail
    started = time.time()
    keys = {name: manifests[name]["key"] for name in stage.upstream}
    assignment = StageAssignment(stage.name, identity.key, keys, context.chosen.get(stage.name, {}))
    go_on = partial(_going_on, stage, workspace, identity.key)
    together = context.others.together(assignment, fail, go_on) if stage.distributed else nullcontext()
    with workspace.building(stage.name, identity.key) as output:
        with blaming_inputs(workspace, assignment):
            check_inputs(workspace, stage, manifests)
        with blaming_inputs(workspace, assignment), together:
            given = _stage_context(stage, assignment, config, workspace, output, progress, context.launch)
            summary = stage.run(replace(given, fail=fail, session=context.session))
        _check_sources(identity, identify(stage, config, workspace, manifests))
        return seal(output, stage, identity, section_of(config, stage), keys, summary, started, checked)


def _report(stage: Stage, manifest: Manifest, artifact: Path, progress: Progress) -> None:
    """Say what came of a stage that was built."""
    for warning in warnings_of(manifest):
        progress.say(f"warning: {warning}")
    told = stage.summary_line(manifest["summary"])
    progress.say(f"done in {manifest['seconds']:.1f} s" + (f"  ({told})" if told else ""))
    for what in ("rejected", "dropped"):
        if manifest["summary"].get(what):
            progress.say(f"what was {what} is listed in {artifact / what}.jsonl")


def _going_on(stage: Stage, workspace: Workspace, key: str) -> str:
    """What to type after a stage was cut off, and from where it would go on."""
    point = stage.checkpointing.resume_point(workspace.checkpoints(key)) if stage.checkpointing is not None else None
    return "run again to go on" + (f" from {point}" if point else "")


def _take_part(config: Configuration, workspace: Workspace, follower: Follower) -> None:
    """Carry out the stages that process 0 announces, until it is done. Leaves every result and word to process 0."""
    for assignment in follower.assignments():
        stage = workspace.stage(assignment.stage)
        follower.wait_for([workspace.artifact(name, key) / MANIFEST for name, key in assignment.inputs.items()])
        with (
            follower.taking_part(partial(_going_on, stage, workspace, assignment.key)),
            warnings.catch_warnings(action="ignore"),
            TemporaryDirectory() as output,
            open(os.devnull, "w") as silence,
        ):
            progress = Progress(stage.name, silence)
            stage.run(_stage_context(stage, assignment, config, workspace, Path(output), progress, follower.launch))


def _stage_context(
    stage: Stage,
    assignment: StageAssignment,
    config: Configuration,
    workspace: Workspace,
    output: Path,
    progress: Progress,
    launch: Launch,
) -> StageContext:
    section = section_of(config, stage)
    if assignment.chosen:  # In the other processes the configuration still leaves open what process 0 chose.
        section = type(section).model_validate({**section.model_dump(by_alias=True), **assignment.chosen})
    return StageContext(
        config=section,
        seed=config.run.seed if stage.uses_seed(config) else 0,
        inputs={name: workspace.artifact(name, key) for name, key in assignment.inputs.items()},
        output=output,
        work=workspace.checkpoints(assignment.key) if stage.checkpointing is not None else None,
        num_workers=config.run.num_workers or num_cores(),
        progress=progress,
        process_index=launch.index if stage.distributed else 0,
        num_processes=launch.count if stage.distributed else 1,
        chosen=assignment.chosen,
        run_name=config.run.name,
        run_settings=config.values(),
    )


def wait(what: str, holder: str) -> None:
    """Say that somebody else is at it."""
    Progress(what).say(f"waiting for {holder}, which is at the same work")


def _check_sources(before: Identity, after: Identity) -> None:
    """Raises BadDataError when a source file was changed while a stage read it: the result would be of neither."""
    if before.key != after.key:
        changed = [
            line
            for kind in ("files_in", "facts")
            for line in describe_changes("source", before.payload.get(kind, {}), after.payload.get(kind, {}))
        ]
        raise BadDataError(f"{before.payload['stage']}: {'; '.join(changed)} while it was read; run again")
