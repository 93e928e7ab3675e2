"""Paragraphs that repeat leave documents, and those of held-out documents leave training."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from stages.test_clusters import Corpus

from pipeline.corpus import shuffle
from pipeline.corpus.document_shards import read_documents
from pipeline.corpus.documents import SPLITS, Document

FOOTER = "Subscribe to our newsletter today, and never miss a story like this one again, dear reader."
SHORT = "Read more"
PLAIN = {
    "near_duplicates": None,
    "filters": [{"type": "min_words", "value": 6}],
    "deduplicate_paragraphs": {"min_chars": 40},
}


def story(number: int) -> str:
    words = f"story {number} of a long walk along the big river with friends and stones and birds in winter".split()
    random.Random(number).shuffle(words)
    return " ".join(words)


def found(corpus: Corpus) -> dict[str, tuple[str, Document]]:
    return {one.id: (split, one) for split in SPLITS for one in read_documents(corpus.output / split)}


def test_each_paragraph_stays_once_and_first_where_it_is_held_out(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.add([f"{story(n)}\n\n{FOOTER.upper() if n % 2 else FOOTER}\n\n{SHORT}" for n in range(80)])
    corpus.add([f"{FOOTER}\n\n{story(n)}" for n in range(100, 140)] + [FOOTER + "\n\n" + SHORT], source="t")
    summary = corpus.curate(validation_fraction=0.2, test_fraction=0.2, **PLAIN)
    documents = found(corpus)
    holders = [(split, one) for split, one in documents.values() if FOOTER.lower() in one.text.lower()]
    assert [split for split, _ in holders] == ["test"]
    for id, (_, one) in documents.items():
        number = int(id.partition("-")[2])
        parts = [story(number), SHORT] if id.startswith("s") else [story(100 + number)]
        without = "\n\n".join(parts)
        is_holder = one is holders[0][1]
        assert is_holder or one.text == without
        assert one.changes == ([] if is_holder else ["curate:deduplicate_paragraphs"])
    assert summary["dropped"] == {"fewer than min_words": 1}, "the document that was a footer alone"
    assert summary["repeated_paragraphs"] == summary["changed"]["deduplicate_paragraphs"] == 120
    assert summary["bytes_out"] == sum(one.num_bytes for _, one in documents.values())


def test_results_depend_neither_on_workers_nor_on_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def curated(name: str, **options: Any) -> dict[str, str]:
        corpus = Corpus(tmp_path / name)
        for shard in range(3):
            corpus.add(
                [
                    f"{story(n % 50)}\n\n{story(n + 1000)}\n\n{story(n // 3)}"
                    for n in range(shard * 40, shard * 40 + 40)
                ],
                source=f"s{shard}",
            )
        corpus.curate(validation_fraction=0.2, test_fraction=0.2, **PLAIN, **options)
        return corpus.digests()

    one = curated("one")
    monkeypatch.setattr(shuffle, "PART_BYTES", 200)
    assert curated("two", workers=2) == one
