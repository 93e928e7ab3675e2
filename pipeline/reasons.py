"""Why a stage has to run: what differs from an earlier artifact of the workspace."""

from __future__ import annotations

from typing import Any

from pipeline.artifacts import Identity, Workspace
from pipeline.manifests import Manifest, describe_differences, have_common_input, read_manifest
from pipeline.results import read_run

NOTHING_EARLIER = "no earlier artifact of this run"


def find_reasons(workspace: Workspace, run: str, identity: Identity) -> tuple[tuple[str, ...], str]:
    """How an identity without an artifact differs from the one that the run of this name used before, or else from the
    nearest that was made of the same files or inputs in part; and whose that is, "" where there is none."""
    stage = identity.payload["stage"]
    state = read_run(workspace.run(run)) or {"stages": {}}
    own = {**state.get("earlier", {}), **state["stages"]}.get(stage)
    if own is not None and own["key"] == identity.key:
        return ("its artifact is no longer there",), ""
    earlier = read_manifest(workspace.artifact(stage, own["key"])) if own else None
    if earlier is not None:
        return tuple(describe_differences(earlier, identity.payload)), f"run {run}"
    nearest = _nearest(workspace, identity.payload)
    if nearest is None:
        return (NOTHING_EARLIER,), ""
    return tuple(describe_differences(nearest, identity.payload)), _user_of(workspace, nearest)


def _nearest(workspace: Workspace, payload: dict[str, Any]) -> Manifest | None:
    kin = [manifest for manifest in workspace.manifests(payload["stage"]) if have_common_input(manifest, payload)]
    return min(kin, key=lambda manifest: len(describe_differences(manifest, payload)), default=None)


def _user_of(workspace: Workspace, manifest: Manifest) -> str:
    """The last run that used an artifact, or else the artifact itself."""
    states = filter(None, map(read_run, sorted(workspace.root.glob("runs/*"))))
    users = [state for state in states if state["stages"].get(manifest["stage"], {}).get("key") == manifest["key"]]
    last = max(users, key=lambda state: float(state["started"]), default=None)
    return f"run {last['name']}" if last else f"artifact {manifest['key']}"
