"""Trainings with a planted fault, each named for what it is before a tenth of the training is over where it was there
from the start; and healthy trainings, of which nothing is said."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState
from numpy.typing import NDArray
from telemetry.text_streams import GARBAGE, documents, tokenizer, write_texts
from training.test_labelled import make_labelled
from training.tiny import (
    BLOCK_SIZE,
    LLAMA,
    VOCAB_SIZE,
    context_for,
    make_inputs,
    run_train,
    train_in_child,
    verdicts_told,
)
from transformers import PreTrainedTokenizerFast

from pipeline.modeling.model_config import ModelConfig
from pipeline.stages import model as model_stage
from pipeline.telemetry.verdicts import Verdict, last_verdicts, verdicts_of
from pipeline.tokens.packing import pack_contiguous
from pipeline.tokens.token_streams import StreamWriter
from pipeline.tokens.tokenizers.base_tokenizer import EOS_TOKEN, PAD_TOKEN
from pipeline.training.batches import GlobalBatches
from pipeline.training.data_order import DataOrder
from pipeline.training.recording.metrics_file import read_facts, read_metrics, verdicts_so_far

SETTINGS: dict[str, Any] = {
    "max_steps": 100,
    "global_batch_size": 8,
    "per_device_train_batch_size": 8,
    "logging_steps": 2,
    "eval_steps": 10,
    "eval_batches": 8,
    "save_steps": 1000,
}
GRADIENTS = ("vanishing_gradients", "exploding_gradients", "growing_gradients")
"""Of a training that has diverged, these are chance."""

MIXTURE = {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 1}


@pytest.fixture(autouse=True)
def forget_accelerate():
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def write_stream(folder: Path, split: str, ids: NDArray[Any], lengths: list[int]) -> None:
    """A stream in place of the one that is there."""
    shutil.rmtree(folder / "encode" / split)
    with StreamWriter(folder / "encode" / split, np.dtype("<u2"), "tokenizer") as writer:
        writer.write(ids, np.array(lengths))
    special = {"vocab_size": VOCAB_SIZE, "eos_token_id": 1, "pad_token_id": 0, "dtype": "uint16"}
    special |= {"prefix_token_ids": [], "suffix_token_ids": [1]}
    told = {"tokens": len(ids), "documents": len(lengths), "digest": split}
    packed = pack_contiguous({**special, "splits": {split: told}}, split, BLOCK_SIZE)
    (folder / "pack" / split / "pack.json").write_text(json.dumps(packed))


def ordered(count: int, seed: int = 5) -> NDArray[Any]:
    """Ids that count upwards with jumps: there is something to learn."""
    return 2 + np.cumsum(np.random.default_rng(seed).choice([1, 1, 1, 7], count)) % (VOCAB_SIZE - 2)


def random_ids(count: int, seed: int = 5) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(2, VOCAB_SIZE, count)


def trained(
    folder: Path,
    ids: NDArray[Any] | None = None,
    lengths: list[int] | None = None,
    held_out: NDArray[Any] | None = None,
    model: dict[str, Any] | None = None,
    **changes: Any,
) -> tuple[dict[str, Verdict], list[dict[str, Any]]]:
    """The verdicts at the end of a training, and those that were told on the way."""
    inputs = make_inputs(folder, **(model or {}))
    ids = ordered(4210) if ids is None else ids
    write_stream(folder, "train", ids, lengths or [len(ids)])
    held_out = ordered(401, 6) if held_out is None else held_out
    write_stream(folder, "validation", held_out, [len(held_out)])
    summary = run_train(inputs, folder, **{**SETTINGS, **changes})
    told = folder / "output/health.jsonl"
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    return {one.what: one for one in verdicts_of(summary["health"])}, lines


def first_step(told: list[dict[str, Any]], what: str, severity: str) -> int:
    """When a verdict was told first."""
    return next(line["at"] for line in told if (line["what"], line["verdict"]) == (what, severity))


def assert_told_truly(told: list[dict[str, Any]], *critical: str) -> None:
    """Every verdict has its numbers, and only these are critical."""
    assert all(re.search(r"\d", line["evidence"]["words"]) for line in told)
    others = {line["what"] for line in told if line["verdict"] == "critical" and line["kind"] != "speed"}
    assert others <= set(critical)


def test_a_learning_rate_of_10(tmp_path):
    found, told = trained(tmp_path, learning_rate=10.0)
    assert first_step(told, "loss_above_guessing", "critical") <= 10
    assert first_step(told, "unstable_updates", "critical") <= 10
    assert "train.learning_rate" in found["unstable_updates"].remedy
    of_losses = ("loss_above_guessing", "no_better_than_frequencies", "loss_diverged", "nothing_learned")
    inside = ("saturated_attention", "large_attention_logits", "fading_activations", "gradient_factor")
    assert_told_truly(told, "unstable_updates", "overwritten_weights", "strong_decay", *of_losses, *GRADIENTS, *inside)


def test_a_learning_rate_of_a_billionth(tmp_path):
    found, told = trained(tmp_path, learning_rate=1e-9)
    assert first_step(told, "stalled_updates", "critical") <= 10
    assert found["stalled_updates"].remedy == "raise train.learning_rate"
    assert_told_truly(told, "stalled_updates", "no_better_than_frequencies", "nothing_learned")


def test_random_letters_teach_nothing(tmp_path):
    found, told = trained(tmp_path, random_ids(21000), held_out=random_ids(401, 6), max_steps=160)
    assert found["no_better_than_frequencies"].verdict == "critical"
    assert found["nothing_learned"].verdict == "critical"
    assert_told_truly(told, "no_better_than_frequencies", "nothing_learned", "overfitting")


def test_twenty_documents_for_many_epochs(tmp_path):
    found, told = trained(tmp_path, ordered(320), [16] * 20, max_steps=150)
    assert first_step(told, "many_epochs", "critical") <= 15
    assert found["overfitting"].verdict == "critical"
    assert found["overfitting"].since is not None
    assert_told_truly(told, "many_epochs", "overfitting")


def test_documents_of_one_token(tmp_path):
    ids = ordered(4210)
    ids[1::2] = 1
    found, told = trained(tmp_path, ids, [2] * (len(ids) // 2), max_steps=20)
    assert first_step(told, "one_token_documents", "warning") <= 2
    assert found["many_end_tokens"].verdict == "warning"
    assert "50.0%" in found["many_end_tokens"].evidence.words
    assert_told_truly(told)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_shuffled_labels(tmp_path, task):
    inputs = make_labelled(tmp_path, task, train_documents=400, are_shuffled=True)
    run_train(inputs, tmp_path, **{**SETTINGS, "max_steps": 20})
    told = [json.loads(line) for line in (tmp_path / "output/health.jsonl").read_text().splitlines()]
    assert first_step(told, "labels_without_text", "warning") <= 2
    assert_told_truly(told, "nothing_learned", "no_better_than_frequencies", "overfitting")


def text_inputs(folder: Path, texts: Sequence[str]) -> dict[str, Path]:
    """Inputs of a training on texts, with a tokenizer of bytes and pairs of them."""
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), pad_token=PAD_TOKEN, eos_token=EOS_TOKEN)
    fast.save_pretrained(folder / "tokenizer")
    for split, chosen in (("train", texts), ("validation", documents()[:8])):
        write_texts(folder, split, chosen, tokenizer(), BLOCK_SIZE)
    section = ModelConfig(architecture="llama", config=LLAMA)
    model_stage.STAGE.run(context_for(section, {"tokenizer": folder / "tokenizer"}, folder / "model"))
    return {name: folder / name for name in ("pack", "encode", "model")}


@pytest.mark.parametrize(("batch", "place", "name"), [(1, 0, "dump"), (4, 75, "bytes"), (32, 150, "encoding")])
def test_a_document_of_garbage_in_any_place_and_batch(tmp_path, batch, place, name):
    texts = [*documents()[:place], GARBAGE[name][0], *documents()[place:150]]
    inputs = text_inputs(tmp_path, texts)
    batches = {"global_batch_size": batch, "per_device_train_batch_size": batch}
    summary = run_train(inputs, tmp_path, **{**SETTINGS, **batches, "max_steps": 20, "eval_steps": 20})
    told = [json.loads(line) for line in (tmp_path / "output/health.jsonl").read_text().splitlines()]
    assert first_step(told, "garbage_documents", "warning") <= 2
    [verdict] = [one for one in verdicts_of(summary["health"]) if one.what == "garbage_documents"]
    assert (
        f"1 of 151 training documents that are long enough to tell are no text: document {place + 1} "
        f"({GARBAGE[name][1]}" in verdict.evidence.words
    )
    assert_told_truly(told)


def test_random_letters_are_told_before_the_first_step(tmp_path):
    letters = np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz "), (40, 1500))
    run_train(text_inputs(tmp_path, ["".join(text) for text in letters]), tmp_path, **{**SETTINGS, "max_steps": 20})
    told = [json.loads(line) for line in (tmp_path / "output/health.jsonl").read_text().splitlines()]
    assert first_step(told, "text_without_order", "warning") <= 2


def test_a_slow_loader(tmp_path, monkeypatch):
    read = GlobalBatches.__getitem__

    def slowly(batches: GlobalBatches, step: int) -> Any:
        time.sleep(0.06)
        return read(batches, step)

    monkeypatch.setattr(GlobalBatches, "__getitem__", slowly)
    found, told = trained(tmp_path, max_steps=60)
    assert min(line["at"] for line in told if line["what"] == "waiting_for_data") <= 6
    assert found["waiting_for_data"].verdict in ("warning", "critical")
    assert_told_truly(told)


def test_a_spike_at_the_end(tmp_path):
    """The windows of the last step are noise."""
    ids, settings = ordered(8 * 16 * 100 + 1), {"max_steps": 100, "loss_spike_window": 32}
    windows = DataOrder(800, 3).windows(8 * 99, 8).tolist()
    for window in windows:
        ids[16 * window + 1 : 16 * window + 17] = random_ids(16, window)
    found, told = trained(tmp_path, ids, [64] * 200 + [1], **settings)
    assert found["loss_spikes"].verdict == "warning"
    assert first_step(told, "loss_spikes", "warning") == 100
    words = found["documents_of_spikes"].evidence.words
    assert "at step 100: document" in words
    named = [int(number) for number in re.findall(r"document (\d+)", words.partition("step 100")[2])]
    assert set(named) <= {(16 * window + 1 + place) // 64 + 1 for window in windows for place in (0, 15)}
    assert_told_truly(told)


def test_a_killed_training_tells_what_a_whole_one_tells(tmp_path):
    inputs, slow = make_inputs(tmp_path), {"learning_rate": 1e-9, "lr_scheduler_type": "constant"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    assert train_in_child(inputs, whole, **slow) == 0
    assert train_in_child(inputs, killed, ("update", 11, "SIGKILL"), **slow) == -signal.SIGKILL
    assert [verdict.what for verdict in last_verdicts(killed / "work") if verdict.kind == "updates"] == [
        "stalled_updates"
    ]
    so_far = {verdict.what: verdict for verdict in verdicts_so_far(killed / "work")}
    assert so_far["stalled_updates"].evidence.step == read_metrics(killed / "work")[-1]["step"]
    facts = read_facts(killed / "work")
    assert facts is not None
    assert facts.frequency_loss is not None
    assert train_in_child(inputs, killed, **slow) == 0
    assert facts == read_facts(whole / "work"), "they were known before the first step"
    assert [line["what"] for line in verdicts_told(whole / "output0")] == ["stalled_updates"]
    assert verdicts_told(killed / "output1") == verdicts_told(whole / "output0")


def assert_healthy(found: dict[str, Verdict], told: list[dict[str, Any]]) -> None:
    """But for waits, which are those of the machine."""
    assert not [(line["at"], line["what"], line["evidence"]["words"]) for line in told if line["kind"] != "speed"]
    assert all(verdict.is_healthy for verdict in found.values() if verdict.kind != "speed")


HEALTHY: list[dict[str, Any]] = [
    {"learning_rate": 0.01},
    {"learning_rate": 0.02, "warmup_steps": 20},
    {"optim": "sgd", "learning_rate": 0.3, "weight_decay": 1e-3},
    {"model": {"architecture": "mixtral", "config": MIXTURE}, "router_aux_loss_coef": 0.02},
]


@pytest.mark.parametrize("changes", HEALTHY)
def test_of_a_healthy_training_nothing_is_said(tmp_path, changes):
    found, told = trained(tmp_path, **changes)
    assert_healthy(found, told)


@pytest.mark.slow
@pytest.mark.parametrize("draw", range(20))
def test_of_drawn_healthy_trainings_nothing_is_said(tmp_path, draw):
    random = np.random.default_rng(draw)
    width = int(random.choice([16, 32]))
    config = {**LLAMA, "hidden_size": width, "num_hidden_layers": int(random.integers(1, 5))}
    found, told = trained(
        tmp_path,
        ordered(int(random.integers(9000, 20000)), draw),
        held_out=ordered(401, 100 + draw),
        model={"config": config},
        learning_rate=float(np.exp(random.uniform(np.log(3e-3), np.log(2e-2)))),
        warmup_steps=int(random.integers(0, 20)),
        lr_scheduler_type=str(random.choice(["linear", "cosine", "constant"])),
        weight_decay=float(random.choice([0.0, 0.1])),
        global_batch_size=int(random.choice([8, 16])),
    )
    assert_healthy(found, told)
