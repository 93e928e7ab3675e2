from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from training.tiny import make_streams, make_tokenizer

from pipeline.tasks.causal_lm import CausalLm
from pipeline.telemetry.data_facts import measure_data, order_gain, repeated_share
from pipeline.tokens.packed_split import PackedSplit
from pipeline.tokens.packing import pack_contiguous
from pipeline.tokens.token_streams import StreamWriter
from pipeline.training.train_config import TrainConfig


def stream(folder: Path, ids: list[int], lengths: list[int], block_size: int = 4) -> PackedSplit:
    with StreamWriter(folder / "encode/train", np.dtype("<u2"), "tokenizer") as writer:
        writer.write(np.array(ids), np.array(lengths))
    told = {"tokens": len(ids), "documents": len(lengths), "digest": "train"}
    special = {"vocab_size": 64, "eos_token_id": 1, "pad_token_id": 0, "dtype": "uint16"}
    special |= {"prefix_token_ids": [], "suffix_token_ids": [1]}
    packed = pack_contiguous({**special, "splits": {"train": told}}, "train", block_size)
    (folder / "pack/train").mkdir(parents=True)
    (folder / "pack/train/pack.json").write_text(json.dumps(packed))
    return PackedSplit.open(folder / "pack", folder / "encode", "train")


def test_shares_of_a_stream_counted_by_hand(tmp_path):
    ids = [5, 6, 7, 1, 5, 1, 1, 9, 5, 6, 7, 1]
    facts = measure_data(stream(tmp_path, ids, [4, 2, 1, 5]), None)
    assert facts.end_share == 4 / 12
    assert facts.one_token_share == 2 / 4
    assert facts.repeated_share == pytest.approx(1 / 3)
    assert facts.order_gain is None


def test_a_long_stream_is_sampled_evenly(tmp_path):
    split = stream(tmp_path, [*range(2, 60)] * 100, [5800])
    assert sum(len(ids) for ids in split.samples(10_000)) == 5800
    parts = list(split.samples(640))
    assert [len(ids) for ids in parts] == [10] * 64
    assert parts[32].tolist() == split.stream[2900:2910].tolist()


@pytest.mark.parametrize(
    ("words", "low", "high"), [("text", 0.1, 0.5), ("shuffled", 0.1, 0.5), ("letters", -0.01, 0.03)]
)
def test_text_has_an_order_and_random_letters_have_none(words, low, high):
    random = np.random.default_rng(0)
    text = Path("README.md").read_text(encoding="utf-8")
    made = {
        "text": text,
        "shuffled": " ".join(random.permutation(text.split())),
        "letters": "".join(random.choice(list("abcdefghijklmnopqrstuvwxyz "), 30_000)),
    }
    gain = order_gain(np.frombuffer(made[words].encode(), np.uint8))
    assert gain is not None
    assert low < gain < high


def test_the_gain_of_order_is_that_of_a_loop_over_pairs():
    text = b"abracadabra, said the magician; abracadabra"
    pairs, before, after = Counter(pairwise(text)), Counter(text[:-1]), Counter(text[1:])
    total = len(text) - 1
    single = -sum(n / total * math.log(n / total) for n in after.values())
    conditional = -sum(n / total * math.log(n / before[first]) for (first, _), n in pairs.items())
    assert order_gain(np.frombuffer(text, np.uint8)) == pytest.approx(1 - conditional / single)
    assert order_gain(np.zeros(9, np.uint8)) is None


def test_no_whole_window_repeats_nothing():
    assert repeated_share([np.array([1, 2])], 3) is None


def test_frequencies_cost_what_a_loop_over_the_ids_says(tmp_path):
    make_tokenizer(tmp_path / "tokenizer")
    make_streams(tmp_path, {"train": 421, "validation": 101})
    train, held_out = (PackedSplit.open(tmp_path / "pack", tmp_path / "encode", s) for s in ("train", "validation"))
    counts = Counter(train.stream[:].tolist())
    cost = [-math.log((counts[one] + 1) / (421 + 64)) for one in held_out.stream[:].tolist()]
    found = CausalLm().frequency_loss(train, held_out, TrainConfig(max_steps=1))
    assert found == pytest.approx(sum(cost) / 101, rel=1e-12)
    assert measure_data(train, None).one_token_share == 0
