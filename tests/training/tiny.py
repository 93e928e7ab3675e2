"""Tiny artifacts to train on, and a training in a process of its own that can be killed at a chosen point."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import resource
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import PATIENCE_SECONDS, default_signals

from pipeline.atomic import digest_file
from pipeline.engine.stage import StageContext
from pipeline.errors import DescentError, storage_errors
from pipeline.modeling.model_config import ModelConfig
from pipeline.progress import Progress
from pipeline.telemetry.anatomy import record_of, recorded_steps
from pipeline.tokens.packing import pack_contiguous
from pipeline.tokens.token_streams import StreamWriter
from pipeline.training.train_config import TrainConfig

VOCAB_SIZE, BLOCK_SIZE = 64, 16
FULL_DISK_BYTES = 60_000
PLANTED = "model.layers.1.mlp.down_proj"
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
    "mixed_precision": "no",
}

# Children are forked from a server that has imported torch but never used it: quick to start, safe to kill.
server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["pipeline.training.loop", "pipeline.modeling.build"])


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
        with StreamWriter(folder / "encode" / split, np.dtype("<u2"), "tokenizer") as writer:
            writer.write(ids, np.array([count]))
        stream = {"tokens": count, "documents": 1, "digest": split}
        special = {"vocab_size": VOCAB_SIZE, "eos_token_id": 1, "pad_token_id": 0, "dtype": "uint16"}
        special |= {"prefix_token_ids": [], "suffix_token_ids": [1]}
        (folder / "pack" / split).mkdir(parents=True)
        packed = pack_contiguous({**special, "splits": {split: stream}}, split, BLOCK_SIZE)
        (folder / "pack" / split / "pack.json").write_text(json.dumps(packed))


def context_for(
    section: Any, inputs: dict[str, Path], output: Path, work: Path | None = None, index: int = 0, count: int = 1
) -> StageContext:
    """A stage's context as the runner gives it to one of `count` processes."""
    output.mkdir(parents=True)
    progress, settings = Progress("test", io.StringIO()), {"train": section.model_dump(mode="json")}
    processes = {"process_index": index, "num_processes": count}
    return StageContext(
        section, 3, inputs, output, work, 1, progress, **processes, run_name="tiny", run_settings=settings
    )


def make_inputs(
    folder: Path, architecture: str = "llama", config: dict[str, Any] = LLAMA, **model_changes: Any
) -> dict[str, Path]:
    """The input artifacts of the train stage, below `folder`."""
    from pipeline.stages import model

    make_tokenizer(folder / "tokenizer")
    make_streams(folder, {"train": 421, "validation": 101})
    section = ModelConfig(architecture=architecture, config=config, **model_changes)
    model.STAGE.run(context_for(section, {"tokenizer": folder / "tokenizer"}, folder / "model"))
    return {name: folder / name for name in ("pack", "encode", "model")}


def run_train(
    inputs: dict[str, Path], folder: Path, name: str = "output", index: int = 0, count: int = 1, **changes: Any
) -> dict[str, Any]:
    """Run the train stage in this process; its work folder is `folder/work`. Returns its summary."""
    from pipeline.stages import train

    section = TrainConfig(**{**SECTION, **changes})
    return dict(train.STAGE.run(context_for(section, inputs, folder / name, folder / "work", index, count)))


Hit = tuple[str, int, str]
"""(place, n, what): what happens when a process comes to a place the nth time."""


def in_processes(count: int, function: Callable[..., None], *arguments: Any) -> list[int]:
    """Call `function(index, *arguments)` in `count` processes joined over gloo; returns their exit codes, negative for
    a signal. One that outlives another by far is taken for hanging."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "store")
        children = [
            server.Process(target=_joined, args=(index, count, store, function, arguments)) for index in range(count)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(PATIENCE_SECONDS)
        codes = [child.exitcode for child in children]
        for child in children:
            child.kill()
    assert None not in codes, f"a process hangs: {codes}"
    return [code for code in codes if code is not None]


def _joined(index: int, count: int, store: Path, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    default_signals()
    if count > 1:
        ranks = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ.update({name: str(value) for name, value in ranks.items()})
        os.environ.update({"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"})
        torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=index, world_size=count)
    function(index, *arguments)


def train_in_children(
    inputs: dict[str, Path], folder: Path, count: int, hit: Hit | None = None, at: int = 0, **changes: Any
) -> list[int]:
    """Run the train stage in `count` processes; returns their exit codes, negative for a signal.

    `hit` is (place, n, what): when process `at` comes to the place the nth time, it sends itself the signals of those
    names, gets a disk that takes no more than FULL_DISK_BYTES a file ("FULL"), or a loss of NaN ("NAN"), or its model
    gets a weight of NaN in PLANTED ("PLANT").
    """
    existing = len(list(folder.glob("output*")))
    return in_processes(count, _child, inputs, folder, f"output{existing}", count, hit, at, changes)


def train_in_child(inputs: dict[str, Path], folder: Path, hit: Hit | None = None, **changes: Any) -> int:
    """Run the train stage in one child process, like `train_in_children`; returns its exit code."""
    return train_in_children(inputs, folder, 1, hit, **changes)[0]


MEASURED = ("seconds", "throughput/", "time/", "memory/", "health/speed", "verdicts/speed")
"""How tags begin that may differ between two runs which are otherwise equal to the bit."""


def metrics(output: Path) -> list[dict[str, Any]]:
    """The records of a training, without what was measured by the clock."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{tag: value for tag, value in line.items() if not tag.startswith(MEASURED)} for line in lines]


def verdicts_told(output: Path) -> list[dict[str, Any]]:
    """The changes of verdicts on what the records show, without those by the clock."""
    told = output / "health.jsonl"
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    return [line for line in lines if line["kind"] != "speed" and line["evidence"]["step"] is not None]


def outcome(folder: Path, output: str) -> dict[str, Any]:
    """Everything that must not depend on what happened on the way."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sizes = {"scalars": 0, "histograms": 0, "images": 0, "tensors": 0}
    events = EventAccumulator(str(folder / output / "tensorboard"), size_guidance=sizes)
    # Duplicates that TensorBoard would hide are seen by reading every event.
    events.purge_orphaned_data = False
    events.Reload()
    found = events.Tags()
    shown: dict[str, list[tuple[int, Any]]] = {}
    for tag in found["scalars"]:
        shown[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    for tag in found["histograms"]:
        shown[tag] = [(event.step, event.histogram_value) for event in events.Histograms(tag)]
    for tag in found["images"]:
        shown[tag] = [(event.step, event.encoded_image_string) for event in events.Images(tag)]
    for tag in found["tensors"]:
        shown[tag] = [(event.step, event.tensor_proto.string_val[0]) for event in events.Tensors(tag)]
    last = max((folder / "work").glob("step-*"))
    return {
        "model": digest_file(folder / output / "model" / "model.safetensors"),
        "training": (folder / output / "training.json").read_text(),
        "optimizer": digest_file(last / "optimizer.safetensors"),
        "metrics": metrics(folder / output),
        "health": verdicts_told(folder / output),
        "anatomies": {step: record_of(folder / output, step).read_text() for step in recorded_steps(folder / output)},
        "tensorboard": {tag: told for tag, told in shown.items() if not tag.startswith(MEASURED)},
    }


def _child(
    index: int,
    inputs: dict[str, Path],
    folder: Path,
    name: str,
    count: int,
    hit: Hit | None,
    at: int,
    changes: dict[str, Any],
) -> None:
    if hit is not None and index == at:
        arm(*hit)
    try:
        with storage_errors(folder):  # as the commands do
            run_train(inputs, folder, name if index == 0 else f"unused-{name}-{index}", index, count, **changes)
    except DescentError as error:
        (folder / f"error{index or ''}.txt").write_text(str(error))
        os._exit(error.exit_code)


def arm(place: str, count: int, what: str) -> None:
    """Make something happen when a function of the loop is called for the nth time."""
    from pipeline.evaluation import losses
    from pipeline.training import build_state, loop
    from pipeline.training.checkpointing import checkpoints, training_state_dict
    from pipeline.training.recording import metrics_log

    build_state.Routing = type("Routing", (build_state.Routing,), {})  # an autopsy has its own
    models: list[Any] = []
    prepare_layers = build_state.prepare_layers
    build_state.prepare_layers = lambda *given: (models.append(given[1]), prepare_layers(*given))[1]

    places: dict[str, tuple[Any, str, bool]] = {
        "forward": (build_state.Routing, "add", False),
        "update": (build_state.Guard, "set_found_inf", False),
        "record": (metrics_log.MetricsLog, "log", False),
        "recorded": (metrics_log.MetricsLog, "log", True),
        "validate": (loop, "validate", False),
        "validation batch": (losses, "token_losses", False),
        "snapshot": (loop, "take_snapshot", False),
        "tensors": (training_state_dict, "save_parts", False),
        "save": (training_state_dict, "write_json", False),
        "digests": (checkpoints, "write_json", False),
        "saved": (checkpoints, "save_checkpoint", True),
    }
    owner, name, after = places[place]

    def happen() -> None:
        if what == "FULL":
            resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_DISK_BYTES, FULL_DISK_BYTES))
        if what == "PLANT":
            models[0].get_submodule(PLANTED).weight.data[0, 0] = float("nan")
        for name in what.split() if what.startswith("SIG") else ():
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
        if calls == count and what == "NAN":
            return type(result)(result.total * float("nan"), {"loss": result.parts["loss"] * float("nan")})
        return result

    setattr(owner, name, wrapped)
