"""Each topology parses with accelerate's own loader, starts what its name says, and leaves precision alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pipeline.distributed.parallel_dims import ParallelDims
from pipeline.training.launcher_flags import check_launcher
from pipeline.training.train_config import TrainConfig

FOLDER = Path(__file__).parents[2] / "accelerate_configs"
SECTION = TrainConfig(max_steps=1, mixed_precision="bf16", global_batch_size=16)
CONFIGS = sorted(FOLDER.glob("*.yaml"))


def launch_environment(config: Path) -> tuple[str, dict[str, str]]:
    """Which of accelerate's launchers a config file leads to, and the environment that it would set."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

    args = launch_command_parser().parse_args(["--config_file", str(config), "script.py"])
    for key in yaml.safe_load(config.read_text()).get("fsdp_config", {}):
        assert hasattr(args, key), f"accelerate knows no {key}"
    args, defaults, _ = _validate_launch_command(args)
    assert defaults.mixed_precision is None
    if args.use_fsdp or args.multi_gpu:
        return "several", prepare_multi_gpu_env(args) | {"WORLD_SIZE": str(args.num_processes)}
    return "one", prepare_simple_launcher_cmd_env(args)[1]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_starts_what_the_name_says(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MASTER_PORT", "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    launcher, environ = launch_environment(config)
    assert launcher == ("one" if config.stem in ("cpu", "one_gpu") else "several")
    assert (environ.get("ACCELERATE_USE_FSDP") == "true") == config.stem.startswith("fsdp2")
    assert (environ.get("ACCELERATE_USE_CPU") == "True") == (config.stem == "cpu")
    check_launcher(SECTION, environ)


def test_hybrid_sharding_is_asked_for_as_the_header_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MASTER_PORT", "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    text = (FOLDER / "fsdp2_multi_node.yaml").read_text()
    [line] = re.findall(r"^#   (parallelism_config: .*)$", text, re.MULTILINE)
    config = tmp_path / "hybrid.yaml"
    config.write_text(f"{text}{line}\n")
    environ = launch_environment(config)[1]
    check_launcher(SECTION, environ)
    dims = ParallelDims.from_environment(environ)
    assert (dims.replicate, dims.shard) == (2, 8)
