"""What tests let clusters do, and the script that lets them: `cluster_work.py EXECUTOR small|corpus`, where EXECUTOR is
JSON of `run.executor`. It works in the current folder."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.corpus.readers import reading_jobs
from pipeline.engine.run_config import AnyExecutor
from pipeline.engine.stage import StageContext
from pipeline.errors import BadDataError
from pipeline.executors import base_session, slurm_session
from pipeline.executors.base_session import BaseSession
from pipeline.executors.jobs import Job, Report
from pipeline.progress import Progress

STAGES: dict[str, Any] = {
    "ingest": {"sources": [{"name": "s", "type": "jsonl", "paths": ["*.jsonl"]}]},
    "normalize": {"steps": [{"type": "./own.py:DiesOnce"}, {"type": "collapse_whitespace"}]},
    "curate": {
        "near_duplicates": {"drop_at": None, "same_split_at": 0.99},
        "validation_fraction": 0.2,
        "test_fraction": 0.2,
    },
    "augment": {"fraction": 0.5, "operations": [{"type": "synonym"}]},
}

OWN_STEP = '''
import os, signal
from pathlib import Path
from pipeline.corpus.steps import Step

class DiesOnce(Step):
    """Its process is killed at the third file, the first time."""

    type: str

    def apply(self, text):
        return text

    def apply_all(self, texts):
        number = texts[0].split()[3]
        with open("calls", "a") as calls:
            calls.write(f"{number}\\n")
        if number == "30" and not os.path.exists("died"):
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return texts
'''


def count(shared: int, number: int, output: Path, report: Report) -> list[Any]:
    (output / "number").write_text(str(number))
    return [number + shared, os.getcwd(), os.environ["OMP_NUM_THREADS"]]


def fail(shared: int, number: int, output: Path, report: Report) -> None:
    raise BadDataError(f"number {number} is bad")


def fail_unsendably(shared: int, number: int, output: Path, report: Report) -> None:
    class Local(Exception):
        pass

    raise Local("cannot travel")


def die(shared: int, number: int, output: Path, report: Report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(shared: int, number: int, output: Path, report: Report) -> None:
    Path(f"worker-{number}").write_text(str(os.getpid()))
    time.sleep(3600)


def small(session: BaseSession) -> None:
    """Print what becomes of jobs of a few lines."""
    for work in (count, fail, fail_unsendably, die):
        size = base_session.WORKER_BYTES
        job = Job(work, 10, [1, 2, 3], [size] * 3, Path("jobs") / work.__name__, "counting")
        try:
            print([result for _, result in session.run(job, Progress("test"))])
        except Exception as error:
            print(f"{type(error).__name__}: {error}")


def endless(session: BaseSession) -> None:
    size = base_session.WORKER_BYTES
    list(session.run(Job(hang, 10, [1, 2], [size] * 2, Path("jobs"), "hanging"), Progress("test")))


def corpus(session: BaseSession) -> None:
    """Make a corpus of all .jsonl files in the folder."""
    base_session.WORKER_BYTES = 1
    reading_jobs.SHARD_BYTES = 500
    for name, values in STAGES.items():
        stage = import_module(f"pipeline.stages.{name}").STAGE
        output = Path("artifacts") / name
        output.mkdir(parents=True)
        inputs = {upstream: Path("artifacts") / upstream for upstream in stage.upstream}
        section = stage.config.model_validate(values)
        stage.run(StageContext(section, 0, inputs, output, None, 2, Progress(name), session))


if __name__ == "__main__":
    import cluster_work  # The functions above under a name that other processes can import.

    slurm_session.LOOK_SECONDS, slurm_session.GONE_SECONDS = 0.5, 1.5
    with TypeAdapter(AnyExecutor).validate_python(json.loads(sys.argv[1])).session(2) as session:
        getattr(cluster_work, sys.argv[2])(session)
