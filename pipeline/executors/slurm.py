"""Slurm: a cluster on which others work as well."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from pydantic import Field

from pipeline.errors import ConfigError
from pipeline.executors.base_executor import Executor
from pipeline.executors.slurm_session import SlurmSession

COMMANDS = ("sbatch", "squeue", "scancel", "srun")


class Slurm(Executor, type="slurm"):
    """Job arrays on a Slurm cluster, whose machines share run.workspace and this Python. It needs
    pip install 'descent-pipeline[slurm]'."""

    partition: str | None = Field(default=None, min_length=1)
    """The partition. Null is the cluster's default."""

    time_minutes: int = Field(default=240, ge=1)
    """How long an element of an array may take. What it has not done by then is done in another."""

    cpus_per_task: int = Field(default=1, ge=1)
    """Processors for each element. It uses one; clusters that share out memory by processor give more with more."""

    mem_gb: float | None = Field(default=4, gt=0)
    """Memory for each element, in GB. Null is the cluster's default."""

    tasks_per_job: int = Field(default=8, ge=1)
    """Shards that an element works on, one after the other. Larger where more than 1,000 elements would be needed."""

    max_jobs: int = Field(default=64, ge=1)
    """Elements that may run at once."""

    extra: Mapping[str, str | int | float | bool] = Field(default={})
    """More options of sbatch, by name without dashes before: {account: nlp, nice: 100, requeue: true}."""

    def check(self) -> None:
        if find_spec("submitit") is None:
            raise ConfigError("run.executor: slurm needs the extra `slurm`: pip install 'descent-pipeline[slurm]'")
        if missing := [name for name in COMMANDS if shutil.which(name) is None]:
            raise ConfigError(
                f"run.executor: slurm needs {', '.join(missing)}; start the run on a machine of the cluster"
            )

    def session(self, num_workers: int) -> SlurmSession:
        parameters: dict[str, Any] = {
            "partition": self.partition,
            "time": self.time_minutes,
            "cpus_per_task": self.cpus_per_task,
            "mem": None if self.mem_gb is None else f"{round(self.mem_gb * 1024)}M",
            "array_parallelism": self.max_jobs,
            "additional_parameters": dict(self.extra) or None,
        }
        return SlurmSession(parameters, self.tasks_per_job)
