"""Work on shards on a real Ray and a real Slurm, on this machine: the same bytes as in processes of its own, and tasks
whose process was killed are done again, no others."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cluster_work
import pytest
from harness import PATIENCE_SECONDS, default_signals, wait_until
from slurm_cluster import slurm_cluster

from pipeline.atomic import digest_file, list_files

SCRIPT = Path(cluster_work.__file__)


@dataclass(frozen=True)
class Kind:
    """A cluster: `run.executor` of it, and the environment in which it is found."""

    executor: dict[str, Any]
    environment: dict[str, str]

    def start(self, folder: Path, what: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, SCRIPT, json.dumps(self.executor), what],
            cwd=folder,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=default_signals,
        )


LOCAL = Kind({"type": "local"}, {})


RAY_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
TWO_NODES = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "object_store_memory": 80_000_000}
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
OWN_CLUSTERS = pytest.mark.parametrize("cluster", ["ray", "slurm"], indirect=True)
SHARED_CLUSTERS = pytest.mark.parametrize("cluster", ["two nodes of ray", "slurm"], indirect=True)


@contextmanager
def two_nodes_of_ray() -> Iterator[str]:
    """Gives the address of a cluster that others have started."""
    command = [sys.executable, "-c", TWO_NODES]
    environment = {**os.environ, **RAY_ON_LOOPBACK}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        yield next(line.strip() for line in lines if re.fullmatch(r"[\d.]+:\d+\n", line))
        process.communicate(timeout=PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    if request.param == "ray":
        yield Kind({"type": "ray"}, {})
        return
    if request.param == "two nodes of ray":
        with two_nodes_of_ray() as address:
            yield Kind({"type": "ray", "address": address}, RAY_ON_LOOPBACK)
        return
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield Kind({"type": "slurm", "partition": "cpu", "mem_gb": 1, "tasks_per_job": 2}, environment)


def write_corpus(folder: Path) -> None:
    folder.mkdir()
    (folder / "own.py").write_text(cluster_work.OWN_STEP)
    for number in range(5):
        texts = [f"However, story number {10 * number + n} often starts on a big road." for n in range(10)]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{number}.jsonl").write_text(lines)


@pytest.mark.slow
@SHARED_CLUSTERS
def test_a_corpus_is_the_same_when_a_worker_was_killed(cluster: Kind, tmp_path: Path) -> None:
    digests = []
    for kind, name in ((cluster, "cluster"), (LOCAL, "local")):
        write_corpus(tmp_path / name)
        process = kind.start(tmp_path / name, "corpus")
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, errors
        artifacts = tmp_path / name / "artifacts"
        digests.append({one: digest_file(artifacts / one) for one in list_files(artifacts)})
        calls = (tmp_path / name / "calls").read_text().split()
        assert sorted(calls) == ["0", "10", "20", "30", "30", "40"]
    assert len(digests[0]) > 15
    assert digests[0] == digests[1]


@pytest.mark.slow
@OWN_CLUSTERS
def test_results_and_errors_come_back(cluster: Kind, tmp_path: Path) -> None:
    output, errors = cluster.start(tmp_path, "small").communicate(timeout=PATIENCE_SECONDS)
    lines = output.splitlines()
    assert lines[:-1] == [
        str([[number, str(tmp_path), "1"] for number in (11, 12, 13)]),
        "BadDataError: number 1 is bad",
        "RuntimeError: Local: cannot travel",
    ], errors
    assert re.match(
        r"StorageError: a worker process was killed 3 times at shard [123] of 3 \(counting\), probably for lack of "
        r"memory; (set run.num_workers lower|raise run.executor.mem_gb)",
        lines[-1],
    )


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@OWN_CLUSTERS
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_a_run_that_is_interrupted(cluster: Kind, tmp_path: Path) -> None:
    process = cluster.start(tmp_path, "endless")
    wait_until(lambda: any(path.stat().st_size > 0 for path in tmp_path.glob("worker-*")), process)
    workers = [int(path.read_text() or 0) for path in tmp_path.glob("worker-*")]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_SECONDS)
    wait_until(lambda: not any(is_running(pid) for pid in workers if pid))
