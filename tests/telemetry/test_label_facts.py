from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.evaluation.losses import regression_losses
from pipeline.tasks.classification import Classification
from pipeline.tasks.regression import Regression, best_constant
from pipeline.telemetry.label_facts import label_evidence
from pipeline.training.train_config import TrainConfig

REVIEWS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "data/reviews.jsonl").read_text(encoding="utf-8").splitlines()
]


def reviews(count: int) -> tuple[list[Any], dict[str, Any], int]:
    words: dict[str, int] = {}
    texts = [np.unique([words.setdefault(word, len(words)) for word in row["text"].split()]) for row in REVIEWS[:count]]
    verdicts = np.unique([row["verdict"] for row in REVIEWS[:count]], return_inverse=True)[1]
    return texts, {"verdict": verdicts, "stars": np.array([float(row["stars"]) for row in REVIEWS[:count]])}, len(words)


@pytest.mark.parametrize("field", ["verdict", "stars"])
@pytest.mark.parametrize("count", [200, 1000])
def test_texts_tell_their_labels_and_shuffled_ones_do_not(field, count):
    texts, labels, words = reviews(count)
    healthy = label_evidence(texts, labels[field], words)
    assert healthy is not None
    assert healthy > 3 * 1.5
    shuffled = [
        label_evidence(texts, np.random.default_rng(seed).permutation(labels[field]), words) for seed in range(20)
    ]
    assert sum(one is not None and one < 3 for one in shuffled) >= 18
    assert abs(np.mean([one for one in shuffled if one is not None])) < 1.5


def test_too_few_texts_or_labels_say_nothing():
    texts, labels, words = reviews(300)
    assert label_evidence(texts[:199], labels["stars"][:199], words) is None
    assert label_evidence(texts, np.zeros(300, int), words) is None
    assert label_evidence(texts, np.arange(300) // 201, words) is None, "99 of another label"
    assert label_evidence(texts, np.arange(300) // 200, words) is not None


def test_the_score_of_numbers_is_that_of_a_loop():
    random = np.random.default_rng(2)
    texts = [np.unique(random.integers(0, 30, 8)) for _ in range(240)]
    labels = np.array([float(5 in text) + random.normal() for text in texts])
    halves = np.random.default_rng(0).permutation(240) % 2
    excess = variance = 0.0
    for half in (0, 1):
        known = [i for i in range(240) if halves[i] != half]
        asked = [i for i in range(240) if halves[i] == half]
        mean = sum(labels[i] for i in known) / len(known)
        holding = {token: [labels[i] - mean for i in known if token in texts[i]] for token in range(30)}
        effect = {token: sum(each) / (len(each) + 1) for token, each in holding.items()}
        scores = [sum(effect[token] for token in texts[i]) / len(texts[i]) for i in asked]
        middle, center = sum(scores) / len(scores), sum(labels[i] for i in asked) / len(asked)
        excess += sum((score - middle) * (labels[i] - center) for score, i in zip(scores, asked, strict=True))
        spread = sum((labels[i] - center) ** 2 for i in asked) / len(asked)
        variance += sum((score - middle) ** 2 for score in scores) * spread
    assert label_evidence(texts, labels, 30) == pytest.approx(excess / variance**0.5)


def split_of(*labels: float) -> Any:
    return SimpleNamespace(targets=np.array(labels))


@pytest.mark.parametrize("settings", [{}, {"regression_loss": "huber", "huber_delta": 0.5}])
def test_the_best_constant_is_that_of_a_search_and_costs_what_the_loss_of_training_says(settings):
    config = TrainConfig(max_steps=1, **settings)
    train, held_out = split_of(1.0, 2.0, 4.5, 4.75, 30.0), split_of(3.0, 5.0, -1.0)

    def cost(constant: float, labels: Any) -> float:
        said = torch.full((len(labels), 1), constant)
        losses = regression_losses(said, torch.tensor(labels, dtype=torch.float32), config.huber_delta_used)
        return float(losses.double().mean())

    searched = min(np.arange(0, 31, 0.01), key=lambda one: cost(one, train.targets))
    assert best_constant(train.targets, config.huber_delta_used) == pytest.approx(searched, abs=0.01)
    found = Regression().frequency_loss(train, held_out, config)
    assert found == pytest.approx(cost(best_constant(train.targets, config.huber_delta_used), held_out.targets))
    assert Regression().ignorant_loss(None, held_out, config) == pytest.approx(cost(0.0, held_out.targets))


def test_frequencies_of_classes_cost_what_a_loop_says():
    train, held_out = split_of(0, 0, 0, 1, 2), split_of(0, 2, 2)
    shares = {0: 4 / 8, 1: 2 / 8, 2: 2 / 8}  # each count and one more
    by_hand = -sum(math.log(shares[int(label)]) for label in held_out.targets) / 3
    assert Classification().frequency_loss(train, held_out, TrainConfig(max_steps=1)) == pytest.approx(by_hand)
