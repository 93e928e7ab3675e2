"""A launcher that asks for what the configuration does not, or starts less than it was asked for, is refused."""

from __future__ import annotations

import sys

import pytest

from pipeline.errors import ConfigError
from pipeline.training.launcher_flags import check_launcher
from pipeline.training.train_config import TrainConfig

SECTION = TrainConfig(max_steps=1, mixed_precision="bf16", global_batch_size=12, per_device_train_batch_size=3)
ONE = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO", "OMP_NUM_THREADS": "1"}
MESH = {
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": "2",
    "PARALLELISM_CONFIG_DP_SHARD_SIZE": "4",
}
FSDP = {"WORLD_SIZE": "4", "ACCELERATE_USE_FSDP": "true"}


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, "train.mixed_precision is bf16, but the launcher was given fp16"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "was given a dynamo backend"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "WORLD_SIZE": "2"}, "was given DeepSpeed.*fsdp2.yaml"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true", "WORLD_SIZE": "2"}, "was given Megatron-LM.*fsdp2.yaml"),
        ({**FSDP, "FSDP_VERSION": "1"}, "FSDP version 1"),
        ({**FSDP, "FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"}, "set train.gradient_checkpointing"),
        (
            {**FSDP, "FSDP_VERSION": "2", "optim": "adafactor"},
            "adafactor cannot move a model that is sharded",
        ),
        ({**FSDP, "FSDP_VERSION": "2", **MESH, "PARALLELISM_CONFIG_TP_SIZE": "2"}, "with tensor parallelism"),
        ({**FSDP, "FSDP_VERSION": "2", **MESH}, "dp_replicate_size 2 x dp_shard_size 4, but started 4 processes"),
        ({"WORLD_SIZE": "8"}, "train.global_batch_size 12 .* 8 processes"),
        ({"WORLD_SIZE": "3"}, "train.global_batch_size 12 .* 3 processes times per_device_train_batch_size 3"),
        (
            {"OMPI_COMM_WORLD_SIZE": "2"},
            "mpirun started 2 .* torchrun --nproc_per_node 2 scripts/run_pipeline.py a.yaml",
        ),
    ],
)
def test_disagreement_is_refused(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], problem: str) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/run_pipeline.py", "a.yaml"])
    section = SECTION.model_copy(update={"optim": environ.get("optim", SECTION.optim)})
    with pytest.raises(ConfigError, match=problem):
        check_launcher(section, environ)


def test_a_precision_that_was_chosen_here_is_named_as_such() -> None:
    """Process 0 compares what `auto` came to; the others, where it is still open, leave that to it."""
    given, chosen = {"ACCELERATE_MIXED_PRECISION": "bf16"}, {"mixed_precision": "no"}
    section = SECTION.model_copy(update=chosen)
    with pytest.raises(ConfigError, match=r"train.mixed_precision is no \(auto\), but the launcher was given bf16"):
        check_launcher(section, given, chosen)
    check_launcher(SECTION, given, {"mixed_precision": "bf16"})
    check_launcher(SECTION.model_copy(update={"mixed_precision": "auto"}), given)


def test_one_process_where_several_were_asked_for_is_refused_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/run_pipeline.py", "my run.yaml", "train.max_steps=3"])
    typed = (
        r"ACCELERATE_USE_CPU=true torchrun --nproc_per_node N scripts/run_pipeline.py 'my run.yaml' train.max_steps=3$"
    )
    with pytest.raises(ConfigError, match=typed):
        check_launcher(SECTION, {**ONE, "MASTER_PORT": "29500"})


@pytest.mark.parametrize(
    "environ",
    [
        {},
        ONE,
        {**ONE, "ACCELERATE_MIXED_PRECISION": "bf16"},
        {"MASTER_PORT": "29500"},  # left in a shell; nothing says that it is a launcher's
        {"WORLD_SIZE": "4", "MASTER_PORT": "29500"},
        {**FSDP, "FSDP_VERSION": "2"},
    ],
)
def test_agreement_passes(environ: dict[str, str]) -> None:
    check_launcher(SECTION, environ)
