"""Rows that were never updated through the input are those without a gradient in a copy whose tables are two."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from telemetry.test_model_probe import Rows, loss_sums, make_model
from training.tiny import BLOCK_SIZE, VOCAB_SIZE, make_inputs, make_tokenizer, run_train

from pipeline.distributed.collectives import ALONE
from pipeline.modeling.build import load_hf_tokenizer
from pipeline.telemetry.data_facts import unused_tokens
from pipeline.telemetry.input_rows import InputRows
from pipeline.tokens.packed_split import PackedSplit
from pipeline.training.data_order import DataOrder


def rows_with_gradient(model: Any, batches: list[dict[str, torch.Tensor]]) -> list[int]:
    """Of the embedding alone: the head has a table of its own here."""
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    found: set[int] = set()
    for batch in batches:
        model.zero_grad()
        output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        loss_sums(output, batch).total.backward()
        found |= {row for row, one in enumerate(model.model.embed_tokens.weight.grad.tolist()) if any(one)}
    return sorted(found)


@pytest.mark.parametrize("is_tied", [True, False])
def test_rows_are_those_with_a_gradient_through_the_input(tmp_path, is_tied):
    make_tokenizer(tmp_path)
    tokenizer = load_hf_tokenizer(tmp_path)
    split = Rows(padded=True)
    split.ids[0, :5] = 0  # the row of padding gets no gradient
    split.ids[-1, -1] = 1  # stands behind the last target alone
    split.ids[split.ids == 1] = 2
    split.ids[-1, -1] = 1
    parts = [{name: torch.from_numpy(values) for name, values in split.batch([row]).items()} for row in range(3)]
    for part in parts:
        part.setdefault("attention_mask", torch.ones_like(part["input_ids"]))

    model = make_model(tokenizer, "llama", tie_word_embeddings=is_tied)
    rows = InputRows(model, torch.device("cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.5)
    for place, norm in ((0, 1.0), (1, float("inf")), (2, 1.0)):  # the second step is left out
        part = parts[place]
        with rows.watching():
            output = model(input_ids=part["input_ids"], attention_mask=part["attention_mask"], use_cache=False)
            loss_sums(output, part).total.backward()
        rows.take_step(torch.tensor(norm))
        optimizer.step()
        optimizer.zero_grad()
        model(input_ids=parts[1]["input_ids"])  # nobody watches
    assert not model.model.embed_tokens._forward_hooks
    expected = rows_with_gradient(make_model(tokenizer, "llama", tie_word_embeddings=is_tied), [parts[0], parts[2]])
    assert rows.seen.nonzero().flatten().tolist() == expected
    assert 0 not in expected
    assert 1 not in expected
    [missing] = rows.num_seen(ALONE).tolist()
    assert rows.tags([missing]) == {
        "embedding/never_updated_rows": VOCAB_SIZE - len(expected),
        "embedding/never_updated_share": 1 - len(expected) / VOCAB_SIZE,
    }

    again = InputRows(model, torch.device("cpu"))
    again.restore(rows.of_all(ALONE))
    assert again.seen.equal(rows.seen)
    again.restore(None)  # a checkpoint that does not tell
    assert again.tags(again.num_seen(ALONE).tolist()) == {}
    model.model.embed_tokens.weight.requires_grad_(False)
    assert InputRows(model, torch.device("cpu")).num_seen(ALONE).tolist() == []


def test_a_training_records_them_as_its_windows_are_read(tmp_path):
    inputs = make_inputs(tmp_path)
    run_train(inputs, tmp_path, logging_steps=1, max_steps=3, save_steps=100)
    split, order = PackedSplit.open(inputs["pack"], inputs["encode"], "train"), DataOrder(27, 3)
    records = [json.loads(line) for line in (tmp_path / "output/metrics.jsonl").read_text().splitlines()]
    found = {line["step"]: line for line in records if "embedding/never_updated_rows" in line}
    assert sorted(found) == [1, 2, 3]
    for step, line in found.items():
        read = {
            token
            for window in order.windows(0, 4 * step).tolist()
            for token in split.window(window)[:BLOCK_SIZE].tolist()[: split.num_targets([window])]
        }
        assert line["embedding/never_updated_rows"] == VOCAB_SIZE - len(read)
        assert line["embedding/never_updated_share"] == pytest.approx(1 - len(read) / VOCAB_SIZE)


def test_tokens_that_never_occur_are_counted(monkeypatch):
    ids = np.random.default_rng(0).integers(0, 900, 3000).astype("<u2")
    monkeypatch.setattr("pipeline.telemetry.data_facts.SAMPLED_TOKENS", 700)
    assert unused_tokens(ids, 1000) == 1000 - len(set(ids.tolist()))
    assert unused_tokens(np.arange(50, dtype="<u4"), 50) == 0
