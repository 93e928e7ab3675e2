"""Of paragraphs that repeat the first stays, wherever it stands; all other text stays as it is."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.edited_tables import without
from pipeline.corpus.paragraphs import PARAGRAPH, REPEATED, REPEATS, find_repeated, paragraphs_of
from pipeline.corpus.shuffle import NUM_BUCKETS, ShuffleWriter, buckets_of_hashes, part_ranges, read_numbers

PARTS = st.sampled_from(["alpha beta", "Alpha  Beta", "gamma", "delta\nline", "alpha beta ", "short"])
TEXTS = st.lists(st.tuples(PARTS, st.sampled_from(["\n\n", "\n \n\n"])), min_size=1, max_size=5).map(
    lambda parts: "".join(part + gap for part, gap in parts)[: -len(parts[-1][1])]
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.integers(0, 2)), max_size=8), st.integers(1, 11), st.integers(1, 3))
def test_the_first_of_each_stays(
    tmp_path_factory: pytest.TempPathFactory, given: list[tuple[str, int]], least: int, shards: int
) -> None:
    folder = tmp_path_factory.mktemp("paragraphs")
    texts, ranks = [text for text, _ in given], np.array([rank for _, rank in given], np.uint8)
    numbers = np.arange(len(texts))
    paths = []
    for shard in range(shards):
        own = numbers[numbers * shards // max(1, len(texts)) == shard]
        records = paragraphs_of([texts[n] for n in own], own, ranks[own], least)
        paths.append(folder / f"shard{shard}")
        with ShuffleWriter(paths[-1], PARAGRAPH) as writer:
            writer.write(records, buckets_of_hashes(records["key"]))
    found = []
    for number, part in enumerate(part_ranges(paths, PARAGRAPH, 3)):
        (folder / str(number)).mkdir()
        find_repeated((paths, len(texts)), part, folder / str(number), lambda count: None)
        found.append(folder / str(number) / REPEATS)
    got = [
        without(text, set(read_numbers(found, REPEATED, "document", range(n, n + 1), len(texts))["place"].tolist()))
        for n, text in enumerate(texts)
    ]
    assert got == expected(texts, ranks.tolist(), least)


def expected(texts: list[str], ranks: list[int], least: int) -> list[str]:
    seen: set[str] = set()
    left: dict[int, str] = {}
    for number in sorted(range(len(texts)), key=lambda n: (ranks[n], n)):
        kept = ""
        for gap, part in re.findall(r"(\A|\n\s*\n)((?:(?!\n\s*\n)[\s\S])*)", texts[number]):
            key = " ".join(part.split()).casefold()
            if len(part) < least or key not in seen:
                kept += (gap if kept else "") + part
            if len(part) >= least:
                seen.add(key)
        left[number] = kept
    return [left[number] for number in range(len(texts))]


def test_buckets_hold_whole_keys() -> None:
    records = paragraphs_of(["one\n\nTWO", "two"], np.arange(2), np.zeros(2, np.uint8), 3)
    assert records["key"][1] == records["key"][2] != records["key"][0]
    assert records[["document", "place"]].tolist() == [(0, 0), (0, 1), (1, 0)]
    assert (buckets_of_hashes(records["key"]) < NUM_BUCKETS).all()
