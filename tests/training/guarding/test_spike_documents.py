"""The documents in the batch of a spike are told; telling them changes nothing else."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from telemetry.test_planted_faults import ordered, random_ids, write_stream
from training.test_sharded import train_sharded
from training.tiny import BLOCK_SIZE, LLAMA, SECTION, in_processes, make_inputs, outcome, run_train, train_in_child

from pipeline.atomic import digest_file
from pipeline.telemetry.verdicts import last_verdicts
from pipeline.training import loop
from pipeline.training.batches import GlobalBatches
from pipeline.training.checkpointing.extending import adopt, find_checkpoint
from pipeline.training.data_order import DataOrder
from pipeline.training.guarding.spike_documents import RowLoss, rows_by_loss
from pipeline.training.guarding.spikes import MOST_NAMED
from pipeline.training.train_config import TrainConfig
from pipeline.training.train_state import TrainState

SPIKY = {"loss_spike_window": 4, "loss_spike_threshold": 0.5, "lr_scheduler_type": "constant"}
"""With these the least rise is a spike."""

LENGTHS = [7, 20, 3, 33, 60, 1, 2, 40] * 3


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    found = make_inputs(folder, "llama", {**LLAMA, "attention_dropout": 0.2})
    write_stream(folder, "train", ordered(sum(LENGTHS)), LENGTHS)
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `rows_by_loss` finds for step 3 at the end of a training, and the state then."""
    found: list[Any] = []

    def look(state: TrainState) -> None:
        if state.counters.step == state.max_steps:
            found.append((rows_by_loss(state, 3), naive_rows(state, 3)))

    monkeypatch.setattr(loop, "name_spikes", look)
    return found


def naive_rows(state: TrainState, step: int) -> dict[int, tuple[float, int, float]]:
    """By window: its loss, its worst document of four targets or more, and that one's loss; token by token."""
    split: Any = state.train_split
    stream, model = split.stream[:].tolist(), state.unwrapped_model
    document_of = np.repeat(np.arange(len(split.document_ends)), np.diff(split.document_ends.astype(int), prepend=0))
    model.eval()
    found = {}
    for window in [window for part in state.batches.windows(step - 1) for window in part]:
        ids = stream[window * BLOCK_SIZE : window * BLOCK_SIZE + BLOCK_SIZE + 1]
        with torch.no_grad():
            logits = model(torch.tensor([ids[:-1]])).logits[0].double()
        losses = (logits.logsumexp(-1) - logits[range(len(ids) - 1), ids[1:]]).tolist()
        by_document: dict[int, list[float]] = {}
        for place, loss in enumerate(losses):
            by_document.setdefault(int(document_of[window * BLOCK_SIZE + 1 + place]), []).append(loss)
        long = {one: each for one, each in by_document.items() if len(each) >= 4} or by_document
        means = {document: sum(each) / len(each) for document, each in long.items()}
        worst = max(means, key=lambda document: means[document])
        found[window] = (sum(losses) / len(losses), worst, means[worst])
    model.train()
    return found


def test_rows_are_ranked_by_their_losses_and_their_worst_document(inputs, tmp_path, told):
    run_train(inputs, tmp_path)
    [(rows, naive)] = told
    assert [row.loss for row in rows] == sorted((row.loss for row in rows), reverse=True)
    assert {row.window for row in rows} == set(naive)
    for row in rows:
        loss, document, of_document = naive[row.window]
        assert (row.loss, row.document_loss) == (pytest.approx(loss, rel=1e-5), pytest.approx(of_document, rel=1e-5))
        assert row.document == document


NOISE = 51
"""The number of the document of noise, from 1, of NOISY documents of 64 tokens."""

NOISY = 100


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("noisy")
    found, ids = make_inputs(folder), ordered(64 * NOISY)
    ids[64 * (NOISE - 1) : 64 * NOISE] = random_ids(64, 7)
    write_stream(folder, "train", ids, [64] * NOISY)
    return found


LEARNING = {
    "global_batch_size": 4, "per_device_train_batch_size": 4, "max_steps": 100, "loss_spike_window": 32,
    "eval_steps": 1000, "save_steps": 1000,
}  # fmt: skip


def test_a_document_of_noise_is_named_by_its_spike(noisy, tmp_path):
    summary = run_train(noisy, tmp_path, **LEARNING)
    assert summary["grad_norm_spikes"] + summary["loss_spikes"] > 0
    [verdict] = [one for one in summary["health"] if one["what"] == "documents_of_spikes"]
    assert verdict["verdict"] == "note"
    words = verdict["evidence"]["words"]
    assert f"document {NOISE} (loss " in words
    assert '"w' in words, "some of its text"
    assert "look at the documents that are named" in verdict["remedy"]
    assert words in [one.evidence.words for one in last_verdicts(tmp_path / "output")]
    assert [one["kind"] for one in summary["health"]].index("data") > 0, "the spike itself comes first"


def test_noise_ranks_first_in_a_batch_of_any_size(noisy, tmp_path, monkeypatch):
    found: dict[int, RowLoss] = {}

    def look(state: TrainState) -> None:
        if state.counters.step < state.max_steps:
            return
        for size in (1, 4, 32):
            config = state.config.model_copy(update={"global_batch_size": size, "per_device_train_batch_size": 1})
            order = DataOrder(len(state.train_split), state.seed)
            state.batches = GlobalBatches(state.train_split, order, config, state.device)
            inside = 4 * (NOISE - 1) + 1  # a window that lies within it
            step = next(step for step in range(400) if [inside] in state.batches.windows(step))
            found[size] = rows_by_loss(state, step + 1)[0]

    monkeypatch.setattr(loop, "name_spikes", look)
    run_train(noisy, tmp_path, **LEARNING)
    assert {size: row.document + 1 for size, row in found.items()} == {1: NOISE, 4: NOISE, 32: NOISE}


def test_weights_and_records_do_not_depend_on_it(inputs, tmp_path, monkeypatch):
    def trained(name: str) -> tuple[str, list[dict[str, Any]], Path]:
        (tmp_path / name).mkdir()
        run_train(inputs, tmp_path / name, ema_decay=0.9, **SPIKY)
        output = tmp_path / name / "output"
        lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        losses = [{tag: value for tag, value in line.items() if "/loss" in tag or "norm" in tag} for line in lines]
        return digest_file(output / "model" / "model.safetensors"), losses, output

    with_names = trained("named")
    words = [one.evidence.words for one in last_verdicts(with_names[2]) if one.what == "documents_of_spikes"]
    assert words[0].count(" at step ") == MOST_NAMED
    monkeypatch.setattr(loop, "name_spikes", lambda state: None)
    without = trained("nameless")
    assert with_names[:2] == without[:2]


@pytest.mark.slow
def test_killed_or_made_longer_a_training_tells_the_same(inputs, tmp_path):
    """The end of step 8 is no regular record: what it tells, a longer training tells with the next."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    assert train_in_child(inputs, tmp_path / "whole", **SPIKY) == 0
    whole = outcome(tmp_path / "whole", "output0")
    assert any(line["what"] == "documents_of_spikes" for line in whole["health"])
    assert train_in_child(inputs, tmp_path / "killed", ("forward", 9, "SIGTERM"), **SPIKY) == 75
    assert train_in_child(inputs, tmp_path / "killed", **SPIKY) == 0
    assert outcome(tmp_path / "killed", "output1") == whole
    (tmp_path / "short").mkdir(), (tmp_path / "long").mkdir()
    assert train_in_child(inputs, tmp_path / "short", **SPIKY, max_steps=8) == 0
    sections = [TrainConfig(**{**SECTION, **SPIKY, "max_steps": steps}) for steps in (12, 8)]
    tokens = sum(LENGTHS)
    checkpoint = find_checkpoint(
        *sections, math.ceil((tokens - 1) / BLOCK_SIZE), tokens - 1, tmp_path / "short" / "work"
    )
    assert isinstance(checkpoint, Path), checkpoint
    adopt(checkpoint, tmp_path / "long" / "work")
    assert train_in_child(inputs, tmp_path / "long", **SPIKY) == 0
    assert outcome(tmp_path / "long", "output0") == whole


@pytest.mark.slow
def test_two_processes_tell_what_one_tells(noisy, tmp_path):
    """Of a model shared out among them; losses are alike to rounding."""
    changes = {**SPIKY, "per_device_train_batch_size": 2}
    assert train_in_child(noisy, tmp_path / "one", **changes) == 0
    assert in_processes(2, train_sharded, noisy, tmp_path / "two", "output0", False, changes) == [0, 0]

    def figures(folder: Path) -> list[float]:
        told = [one for one in last_verdicts(folder / "output0") if one.what == "documents_of_spikes"]
        return [float(number) for number in re.findall(r"\d+\.?\d*", told[0].evidence.words)]

    assert figures(tmp_path / "two") == pytest.approx(figures(tmp_path / "one"), rel=1e-2)
