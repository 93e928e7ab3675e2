"""Where the work on shards is done. A new executor is a file here and a line in EXECUTORS."""

from pipeline.executors.base_executor import Executor
from pipeline.executors.local import Local
from pipeline.executors.ray import Ray
from pipeline.executors.slurm import Slurm

EXECUTORS = (Local, Ray, Slurm)

__all__ = ["EXECUTORS", "Executor", "Local"]
