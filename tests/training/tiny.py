"""Tiny artifacts to train on, and a training in a process of its own that can be killed at a chosen point."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.model import ModelConfig
from pipeline.config.train import TrainConfig
from pipeline.errors import DescentError
from pipeline.progress import Progress
from pipeline.stages.contract import StageContext
from pipeline.tokens.packing import pack_contiguous

VOCAB_SIZE, BLOCK_SIZE = 64, 16
FULL_DISK_BYTES = 20_000
LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": BLOCK_SIZE,
}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": BLOCK_SIZE}
SECTION: dict[str, Any] = {
    "max_steps": 12,
    "global_batch_size": 4,
    "per_device_train_batch_size": 2,
    "learning_rate": 0.01,
    "warmup_steps": 2,
    "logging_steps": 3,
    "eval_steps": 6,
    "eval_batches": 2,
    "save_steps": 4,
}

# Children are forked from a server that has imported torch but never used it: quick to start, safe to kill.
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["pipeline.training.loop", "pipeline.modeling.build", "pipeline.telemetry.verdicts"])


def make_tokenizer(folder: Path) -> None:
    """A tokenizer of 64 words, with the special tokens that the pipeline's tokenizers have."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<|endoftext|>", *(f"w{index}" for index in range(2, VOCAB_SIZE))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<|endoftext|>")
    fast.save_pretrained(folder)


def make_streams(folder: Path, tokens: dict[str, int]) -> None:
    """`encode` and `pack` artifacts of ids that count upwards with jumps, so that there is something to learn."""
    random = np.random.default_rng(5)
    for split, count in tokens.items():
        ids = 2 + np.cumsum(random.choice([1, 1, 1, 7], count)) % (VOCAB_SIZE - 2)
        path = folder / "encode" / split / "stream.ds"
        path.parent.mkdir(parents=True)
        ids.astype("<u2").tofile(path)
        np.array([count], dtype="<u8").tofile(path.with_name("stream.ds.index"))
        stream = {"tokens": count, "documents": 1, "digest": split}
        special = {"vocab_size": VOCAB_SIZE, "eos_token_id": 1, "pad_token_id": 0, "dtype": "uint16"}
        (folder / "pack" / split).mkdir(parents=True)
        packed = pack_contiguous({**special, "splits": {split: stream}}, split, BLOCK_SIZE)
        (folder / "pack" / split / "pack.json").write_text(json.dumps(packed))


def context_for(section: Any, inputs: dict[str, Path], output: Path, work: Path | None = None) -> StageContext:
    """A stage's context as the runner gives it."""
    output.mkdir(parents=True)
    return StageContext(section, 3, inputs, output, work, 1, Progress("test", open(os.devnull, "w")))


def make_inputs(folder: Path, architecture: str = "llama", config: dict[str, Any] = LLAMA) -> dict[str, Path]:
    """The input artifacts of the train stage, below `folder`."""
    from pipeline.stages import model

    make_tokenizer(folder / "tokenizer")
    make_streams(folder, {"train": 421, "validation": 101})
    section = ModelConfig(architecture=architecture, config=config)
    model.STAGE.run(context_for(section, {"tokenizer": folder / "tokenizer"}, folder / "model"))
    return {name: folder / name for name in ("pack", "encode", "model")}


def run_train(inputs: dict[str, Path], folder: Path, name: str = "output", **changes: Any) -> dict[str, Any]:
    """Run the train stage in this process; its work folder is `folder/work`. Returns its summary."""
    from pipeline.stages import train

    section = TrainConfig(**{**SECTION, **changes})
    return dict(train.STAGE.run(context_for(section, inputs, folder / name, folder / "work")))


def train_in_child(
    inputs: dict[str, Path], folder: Path, hit: tuple[str, int, str] | None = None, **changes: Any
) -> int:
    """Run the train stage in a child process; returns its exit code, negative for a signal.

    `hit` is (place, n, what): when the child comes to the place the nth time, it sends itself the signals of
    those names, or gets a disk that takes no more than FULL_DISK_BYTES a file ("FULL").
    """
    child = _server.Process(target=_child, args=(inputs, folder, hit, changes))
    child.start()
    child.join(120)
    assert child.exitcode is not None, "the child hangs"
    return child.exitcode


def _child(inputs: dict[str, Path], folder: Path, hit: tuple[str, int, str] | None, changes: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(1)
    if hit is not None:
        _arm(*hit)
    existing = len(list(folder.glob("output*")))
    try:
        run_train(inputs, folder, f"output{existing}", **changes)
    except DescentError as error:
        (folder / "error.txt").write_text(str(error))
        os._exit(error.exit_code)


def _arm(place: str, count: int, what: str) -> None:
    """Make something happen when a function of the loop is called for the nth time."""
    from pipeline.training import loop, state

    owner, name, after = {
        "forward": (loop.functional, "cross_entropy", False),
        "validate": (loop, "validate", False),
        "save": (state, "write_json", False),
        "saved": (loop, "save_checkpoint", True),
    }[place]

    def happen() -> None:
        if what == "FULL":
            resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_DISK_BYTES, FULL_DISK_BYTES))
        for name in what.split() if what != "FULL" else ():
            os.kill(os.getpid(), getattr(signal, name))

    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and not after:
            happen()
        result = original(*args, **kwargs)
        if calls == count and after:
            happen()
        return result

    setattr(owner, name, wrapped)
