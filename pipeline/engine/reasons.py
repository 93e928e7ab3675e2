"""Why a stage has to run, and whether it repeated its result: differences from an earlier artifact."""

from __future__ import annotations

from typing import Any

from pipeline.engine.artifacts import Identity, Workspace
from pipeline.engine.differences import describe_differences, have_common_input
from pipeline.engine.manifests import Manifest, read_manifest
from pipeline.engine.run_json import read_run_json
from pipeline.progress import Progress

NOTHING_EARLIER = "no earlier artifact of this run"


def find_reasons(workspace: Workspace, run: str, identity: Identity) -> tuple[tuple[str, ...], str]:
    """How an identity without an artifact differs from an earlier artifact, and whose that is ("" if there is none). It
    is the one that the run of this name used before, or else the nearest that shares an input or file."""
    stage = identity.payload["stage"]
    own = _used_by(workspace, run).get(stage)
    if own is not None and own["key"] == identity.key:
        return ("its artifact is no longer there",), ""
    earlier = read_manifest(workspace.artifact(stage, own["key"])) if own else None
    if earlier is not None:
        return tuple(describe_differences(identity.with_defaults(earlier), identity.payload)), f"run {run}"
    nearest = _nearest(workspace, identity)
    if nearest is None:
        return (NOTHING_EARLIER,), ""
    return tuple(describe_differences(identity.with_defaults(nearest), identity.payload)), _user_of(workspace, nearest)


def last_seconds(workspace: Workspace, run: str, stage: str) -> float | None:
    """How long a stage took when the run of this name last had it made; None where that is not known."""
    own = _used_by(workspace, run).get(stage)
    manifest = read_manifest(workspace.artifact(stage, own["key"])) if own else None
    return manifest["seconds"] if manifest is not None else None


def _used_by(workspace: Workspace, run: str) -> dict[str, Any]:
    """What the run of this name used before, by stage."""
    state = read_run_json(workspace.run(run)) or {"stages": {}}
    return {**state.get("earlier", {}), **state["stages"]}


def _nearest(workspace: Workspace, identity: Identity) -> Manifest | None:
    kin = [
        manifest
        for manifest in workspace.manifests(identity.payload["stage"])
        if have_common_input(manifest, identity.payload)
    ]

    def distance(manifest: Manifest) -> int:
        return len(describe_differences(identity.with_defaults(manifest), identity.payload))

    return min(kin, key=distance, default=None)


def _user_of(workspace: Workspace, manifest: Manifest) -> str:
    """The last run that used an artifact, or else the artifact itself."""
    states = filter(None, map(read_run_json, sorted(workspace.root.glob("runs/*"))))
    users = [state for state in states if state["stages"].get(manifest["stage"], {}).get("key") == manifest["key"]]
    last = max(users, key=lambda state: float(state["started"]), default=None)
    return f"run {last['name']}" if last else f"artifact {manifest['key']}"


def tell_repeated(progress: Progress, earlier: Manifest, manifest: Manifest) -> None:
    """Say whether a rebuilt stage repeated its result, and which files differ."""
    same = earlier["digest"] == manifest["digest"]
    verdict = "the digests agree" if same else "the digests DIFFER: this stage did not repeat its result"
    progress.say(f"{verdict}; the earlier artifact is set aside beside the new one")
    for name in sorted(earlier["files"].keys() | manifest["files"].keys()):
        before, after = earlier["files"].get(name), manifest["files"].get(name)
        if before is None or after is None or (after["kind"] == "result" and before["sha256"] != after["sha256"]):
            progress.say(f"  differs: {name}")
