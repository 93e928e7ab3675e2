"""The leakage figure is what counting runs of words in Python sets gives."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.corpus_jobs import Jobs
from pipeline.corpus.leakage import NO_SPLIT, SampleWriter, keep_one_in, measure_leakage
from pipeline.corpus.shingles import words_of
from pipeline.executors.local_session import LocalSession
from pipeline.progress import Progress

WORDS = [f"word{n}" for n in range(300)]
VALIDATION, TEST = 1, 2


def corpus(draw: random.Random, number: int) -> tuple[list[str], list[int]]:
    """Texts, many of which share passages, and the place of the split of each."""
    passages = [" ".join(draw.choices(WORDS, k=25)) for _ in range(40)]
    texts = []
    for _ in range(number):
        pieces = [" ".join(draw.choices(WORDS, k=draw.randint(0, 30))), *draw.sample(passages, draw.randint(0, 2))]
        draw.shuffle(pieces)
        texts.append("\n".join(pieces))
    return texts, draw.choices([0, VALIDATION, TEST, NO_SPLIT], [60, 15, 15, 10], k=number)


def runs_of(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[n : n + 8]) for n in range(len(words) - 7)} or {tuple(words)} - {()}


def measured(
    folder: Path, texts: list[str], places: list[int], one_in: int, workers: int = 1
) -> dict[str, dict[str, float]]:
    """By shards of 90 documents."""
    samples = []
    for first in range(0, len(texts), 90):
        samples.append(folder / f"shard{first}")
        samples[-1].mkdir(parents=True)
        with SampleWriter(samples[-1], one_in) as writer:
            for start in range(first, min(first + 90, len(texts)), 40):
                some = texts[start : min(start + 40, first + 90)]
                writer.write(words_of(some), np.arange(start, start + len(some), dtype=np.uint32))
    np.array(places, np.uint8).tofile(folder / "places")
    with LocalSession(workers) as session:
        jobs = Jobs(session, Progress("", io.StringIO()), folder)
        return measure_leakage(jobs, samples, folder / "places")


def test_all_runs_compared_give_what_sets_give(tmp_path: Path) -> None:
    texts, places = corpus(random.Random(0), 500)
    train = set().union(*(runs_of(text) for text, place in zip(texts, places, strict=True) if place == 0))
    found = measured(tmp_path, texts, places, 1)
    assert list(found) == ["validation", "test"]
    for place, figures in zip((VALIDATION, TEST), found.values(), strict=True):
        own = [runs_of(text) for text, other in zip(texts, places, strict=True) if other == place]
        judged = [runs for runs in own if len(runs) >= 4]
        overlapping = sum(len(runs & train) >= 0.5 * len(runs) for runs in judged)
        in_train = sum(len(runs & train) for runs in judged) / sum(map(len, judged))
        assert 0.2 < overlapping / len(judged) < 0.8
        assert figures == {
            "documents": len(own),
            "compared": len(judged),
            "overlapping": overlapping,
            "share": pytest.approx(overlapping / len(judged), abs=1e-6),
            "runs_in_train": pytest.approx(in_train, abs=1e-6),
        }


def test_a_sample_of_the_runs_estimates_the_same(tmp_path: Path) -> None:
    texts, places = corpus(random.Random(1), 1200)
    whole, sampled = (measured(tmp_path / str(n), texts, places, n)["test"] for n in (1, 4))
    assert sampled["compared"] < whole["compared"]
    runs = whole["compared"] * 40 / 4
    spread = (
        whole["runs_in_train"] * (1 - whole["runs_in_train"]) / runs * 25
    ) ** 0.5  # passages of 25 words go together
    assert sampled["runs_in_train"] == pytest.approx(whole["runs_in_train"], abs=4 * spread)


def test_a_corpus_without_held_out_documents_has_no_figure(tmp_path: Path) -> None:
    assert measured(tmp_path, ["some text of a few words"], [0], 1) == {}


@pytest.mark.parametrize(
    ("megabytes", "one_in"), [(0, 1), (32, 1), (33, 2), (100, 4), (200, 8), (1000, 16), (10**6, 16)]
)
def test_large_corpora_are_sampled(megabytes: int, one_in: int) -> None:
    assert keep_one_in(megabytes * 1_000_000) == one_in
