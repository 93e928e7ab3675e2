"""Ray: a cluster of several machines, or of this one."""

from __future__ import annotations

from importlib.util import find_spec

from pydantic import Field

from pipeline.errors import ConfigError
from pipeline.executors.base_executor import Executor
from pipeline.executors.ray_session import RaySession


class Ray(Executor, type="ray"):
    """Tasks of a Ray cluster, whose machines share run.workspace and have the same packages. It needs
    pip install 'descent-pipeline[ray]'."""

    address: str | None = Field(default=None, min_length=1)
    """The cluster: HOST:PORT of its head, or auto for one to which this machine belongs. All of its processors are
    used. Null starts one on this machine for the run, with run.num_workers workers."""

    num_cpus: float = Field(default=1, gt=0)
    """Processors that Ray sets aside for each task. More leaves more memory to each."""

    def check(self) -> None:
        if find_spec("ray") is None:
            raise ConfigError("run.executor: ray needs the extra `ray`: pip install 'descent-pipeline[ray]'")

    def session(self, num_workers: int) -> RaySession:
        return RaySession(self.address, self.num_cpus, num_workers)
