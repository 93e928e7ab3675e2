"""What the launcher asked for, checked before anything runs. Imports no torch."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Mapping

from pipeline.distributed.parallel_dims import ParallelDims
from pipeline.errors import ConfigError
from pipeline.machine import is_true
from pipeline.training.optimization.optimizers import family_of
from pipeline.training.recording.trackers import check_trackers
from pipeline.training.train_config import TrainConfig

MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
OTHER_ENGINES = {"ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM"}


def check_launcher(config: TrainConfig | None, environ: Mapping[str, str], chosen: Collection[str] = ()) -> None:
    """Raises ConfigError when the launcher was asked for what it did not start, or for what the configuration is not;
    None stands for one without training.

    `environ` is what the launcher left in the environment; `chosen` names the settings of `config` that were chosen for
    this machine.
    """
    _check_processes(environ)
    if config is None:
        return
    check_trackers(config.log_with)
    config.micro_batch_size(ParallelDims.from_environment(environ).dp_world_size)
    launched = environ.get("ACCELERATE_MIXED_PRECISION", "no")
    # What `auto` comes to is chosen, and compared, by process 0.
    if launched not in ("no", config.mixed_precision) and config.mixed_precision != "auto":
        by = " (auto)" if "mixed_precision" in chosen else ""
        raise ConfigError(
            f"train.mixed_precision is {config.mixed_precision}{by}, but the launcher was given {launched}; remove "
            "--mixed_precision from the command and its config file"
        )
    if environ.get("ACCELERATE_DYNAMO_BACKEND", "NO").upper() != "NO":
        raise ConfigError("the launcher was given a dynamo backend; remove it and set train.torch_compile instead")
    for variable, engine in OTHER_ENGINES.items():
        if is_true(environ, variable):
            raise ConfigError(
                f"the launcher was given {engine}, which steps and clips in its own way; to shard a model start with "
                "--config_file fsdp2.yaml (descent init fsdp2 writes it)"
            )
    if is_true(environ, "ACCELERATE_USE_FSDP") and environ.get("FSDP_VERSION") != "2":
        raise ConfigError(
            "the launcher was given FSDP version 1; set fsdp_version: 2 as in the file that descent init fsdp2 writes"
        )
    if is_true(environ, "ACCELERATE_USE_FSDP") and not family_of(config.optim).can_be_sharded:
        raise ConfigError(
            f"train.optim: {config.optim} cannot move a model that is sharded (FSDP); take adamw_torch_fused or muon"
        )
    if is_true(environ, "FSDP_ACTIVATION_CHECKPOINTING"):
        raise ConfigError(
            "the launcher was given fsdp_activation_checkpointing; remove it and set train.gradient_checkpointing"
        )


def _check_processes(environ: Mapping[str, str]) -> None:
    if "WORLD_SIZE" in environ:
        return
    script = shlex.join(sys.argv)
    for variable in MPI_SIZES:
        if environ.get(variable, "1") != "1":
            count = environ[variable]
            raise ConfigError(
                f"mpirun started {count} processes, of which each would run alone; type "
                f"ACCELERATE_USE_CPU=true torchrun --nproc_per_node {count} {script}"
            )
    # Asked for several processes without several GPUs, accelerate starts one and says nothing; what it leaves behind is
    # an address for the others.
    if "ACCELERATE_MIXED_PRECISION" in environ and "MASTER_PORT" in environ:
        raise ConfigError(
            "accelerate was asked for several processes but started one, as it does without several GPUs; ask it for "
            f"--num_processes 1, or type ACCELERATE_USE_CPU=true torchrun --nproc_per_node N {script}"
        )
