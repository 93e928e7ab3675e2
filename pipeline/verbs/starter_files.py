"""Files to start from: `descent init` writes a shipped configuration or topology where the user works."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from pipeline.console.terminal_text import did_you_mean
from pipeline.errors import MissingInputError, StorageError
from pipeline.plain_yaml import dump
from pipeline.shipped import FOLDER

RUNS = {
    "demo": "configs/demo.yaml",
    "characters": "configs/shakespeare_char.yaml",
    "pretrain": "configs/llama_125m.yaml",
    "grok1": "configs/grok1_314b.yaml",
    "finetune": "configs/finetune_lora.yaml",
    "classification": "configs/classification.yaml",
    "regression": "configs/regression.yaml",
}
"""Kinds of runs, each with the shipped configuration that starts it."""

TOPOLOGIES = {
    name: f"accelerate_configs/{name}.yaml" for name in ("cpu", "one_gpu", "multi_gpu_ddp", "fsdp2", "fsdp2_multi_node")
}
"""Kinds of launches, each with its file for `accelerate launch --config_file`."""

KINDS = {**RUNS, **TOPOLOGIES}
DATA = ("data/reviews.jsonl",)
"""Small data that shipped configurations read: written beside a configuration that names it."""

SCHEMA_LINE = re.compile(r"# yaml-language-server: .*\n")
RUN_NAME = re.compile(r"(?m)^(  name: ).+$")
CAN_NAME_A_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def purpose_of(kind: str) -> str:
    """What a kind is for: the first line of its file's header."""
    lines = (FOLDER / KINDS[kind]).read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix("# ") for line in lines if not SCHEMA_LINE.match(f"{line}\n"))


def nearest_kind(kind: str) -> str:
    """A message for a kind that there is not."""
    hint = did_you_mean(kind, KINDS, otherwise=f"; there are {', '.join(KINDS)}")
    return f"unknown kind {kind!r}{hint}"


def start(kind: str, target: Path | None) -> list[Path]:
    """Write the file of a kind to `target`, and the shipped data that it reads into the working directory.

    A `target` that is a folder gets KIND.yaml. Returns what was written, the file itself last. Raises StorageError
    where a file stands in the way, and MissingInputError where there is no folder to write into.
    """
    target = target or Path(f"{kind}.yaml")
    if target.is_dir() and not target.suffix:
        target /= f"{kind}.yaml"
    if not target.suffix:
        target = target.with_suffix(".yaml")
    if not target.parent.is_dir():
        raise MissingInputError(f"{target.parent}: no such folder; make it first, or name another file")
    text = starting_text(kind, target)
    if os.path.lexists(target):
        raise _in_the_way(target, f"name another: descent init {kind} OTHER.yaml")
    data = {Path(name): (FOLDER / name).read_bytes() for name in DATA if name in text}
    for path, content in data.items():
        if path.exists() and (not path.is_file() or path.read_bytes() != content):
            raise _in_the_way(path, f"it would hold the data of {kind}; move it, or start in another folder")
    missing = [path for path in data if not path.exists()]
    for path in missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        _create(path, data[path])
    _create(target, text.encode())
    return [*missing, target]


def starting_text(kind: str, target: Path) -> str:
    """A shipped file as its user needs it: with the names of files and commands that work outside of a checkout."""
    text = SCHEMA_LINE.sub("", (FOLDER / KINDS[kind]).read_text(encoding="utf-8"), count=1)
    typed = shlex.quote(str(target))
    others = [name for name, file in KINDS.items() if name != kind and file in text]
    for name, file in {**TOPOLOGIES, **RUNS}.items():  # a topology's path ends like that of a configuration
        text = text.replace(file, typed if name == kind else f"{name}.yaml")
    text = text.replace("scripts/run_pipeline.py", "--no_python descent run")
    text = text.replace("accelerate launch --no_python descent run", "descent run")
    if kind in RUNS and CAN_NAME_A_RUN.fullmatch(target.stem):
        # In quotes where it would be a number, such as 2024 or 1e5, or another word of YAML.
        named = dump({"name": target.stem}).rstrip().removeprefix("name: ")
        text = RUN_NAME.sub(rf"\g<1>{named}", text, count=1)
    return "\n".join(_head(kind, typed, others)) + f"\n#\n{text}"


def _head(kind: str, typed: str, others: list[str]) -> list[str]:
    """The lines that stand before a shipped file: what to type next."""
    commands = {f"descent init {name}": f"writes {name}.yaml, which is named below" for name in others}
    if kind in RUNS:
        commands = {
            f"descent plan {typed}": "which stages would run, and why",
            f"descent estimate {typed}": "parameters, memory and time",
            f"descent run {typed}": "ends by naming the report, the curves and the model",
            "descent schema > schema.json": "for editors; then begin with: # yaml-language-server: $schema=schema.json",
            **commands,
        }
    width = max(map(len, commands), default=0)
    lines = [f"#   {command:<{width}}  {what}" for command, what in commands.items()]
    return [f"# Written by `descent init {kind}`.{' Next:' if lines else ''}", *lines]


def _create(path: Path, content: bytes) -> None:
    """Write a file that must not exist, whole or not at all."""
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise _in_the_way(path, "run again") from None
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _in_the_way(path: Path, what_to_do: str) -> StorageError:
    return StorageError(f"{path} exists already and was left as it is; {what_to_do}")
