"""What the launcher asked for, checked before anything runs. Imports no torch."""

from __future__ import annotations

import os

from pipeline.config.train import TrainConfig
from pipeline.errors import ConfigError


def check_launcher(section: TrainConfig) -> None:
    """Raises ConfigError when the launcher asks for another precision, for compilation, or for several processes."""
    num_processes = os.environ.get("WORLD_SIZE", "1")
    if num_processes != "1":
        raise ConfigError(
            f"the launcher started {num_processes} processes, but training runs in one so far; "
            "start it with --num_processes 1, or with descent run"
        )
    # Asked for several processes on the CPU, accelerate starts one and says nothing; this much of it can be seen.
    if "MASTER_PORT" in os.environ and "WORLD_SIZE" not in os.environ:
        raise ConfigError("accelerate was asked for several processes and started one; start it with --num_processes 1")
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", section.mixed_precision):
        raise ConfigError(
            f"train.mixed_precision is {section.mixed_precision}, but the launcher was given {launched}; "
            "remove --mixed_precision from the command and its config file"
        )
    if os.environ.get("ACCELERATE_DYNAMO_BACKEND", "NO").upper() != "NO":
        raise ConfigError("the launcher was given a dynamo backend; remove it and set train.torch_compile instead")
