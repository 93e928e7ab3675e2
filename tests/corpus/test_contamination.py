"""A training document that holds most of a held-out one is found, whatever was done to the text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.corpus.contamination import HeldOutTexts, word_runs, write_runs


def held_out(folder: Path, texts: list[list[str]]) -> HeldOutTexts:
    """Of shards of texts."""
    bases = [folder / f"shard-{number}" for number in range(len(texts))]
    for base, shard in zip(bases, texts, strict=True):
        write_runs(base, [word_runs(text) for text in shard])
    HeldOutTexts.write(folder, "test", bases)
    found = HeldOutTexts.open(folder, "test")
    assert found is not None
    return found


def share_held(own: str, other: str) -> float:
    """The part of the runs of five words of a text that another holds, by sets of tuples."""
    mine, theirs = ({tuple(words[n : n + 5]) for n in range(len(words) - 4)} for words in (own.split(), other.split()))
    return len(mine & theirs) / len(mine)


def test_texts_that_hold_four_fifths_of_a_document_are_those_that_sets_of_tuples_find(tmp_path: Path) -> None:
    draw = random.Random(0)
    words = [f"word{n}" for n in range(40)]
    documents = [" ".join(draw.choices(words, k=draw.randint(14, 60))) for _ in range(30)]
    found = held_out(tmp_path, [documents[:11], [], documents[11:]])
    shares = []
    for _ in range(400):
        pieces = draw.choice(documents).split()
        for _ in range(draw.randint(0, 4)):
            pieces[draw.randrange(len(pieces))] = draw.choice(words)
        text = " ".join([*draw.choices(words, k=draw.randint(0, 30)), *pieces])
        shares.append(max(share_held(document, text) for document in documents))
        assert found.is_held_by(text) == (shares[-1] >= 0.8)
    assert sum(share >= 0.8 for share in shares) > 50
    assert sum(share < 0.8 for share in shares) > 50


@pytest.mark.parametrize(
    ("text", "is_held"),
    [
        ("The quick brown fox jumps over the lazy dog, and then it sleeps under a tree.", True),
        ("the QUICK brown fox\njumps over the lazy dog and then it sleeps under a tree", True),
        ("Once more: the quick brown fox jumps over the lazy dog, and then it sleeps under a tree. The end.", True),
        ("The quick brown fox jumps over the lazy dog.", False),
        ("A slow brown fox jumps over a lazy dog, and now it sleeps below a tree.", False),
        ("私は昨日新しい本を買って一晩中読んでいましたがとても面白かったですよ", True),
        ("私は昨日新しい本を買って", False),
        ("five words are a phrase", False),
        ("", False),
    ],
)
def test_case_punctuation_and_what_stands_around_do_not_matter(tmp_path: Path, text: str, is_held: bool) -> None:
    documents = [
        "The quick brown fox jumps over the lazy dog, and then it sleeps under a tree.",
        "私は昨日新しい本を買って一晩中読んでいましたがとても面白かったです",
        "five words are a phrase",
    ]
    assert held_out(tmp_path, [documents]).is_held_by(text) is is_held


def test_sources_without_documents_hold_nothing(tmp_path: Path) -> None:
    found = held_out(tmp_path, [[]])
    assert not found.is_held_by("The quick brown fox jumps over the lazy dog, and then it sleeps under a tree.")
    assert HeldOutTexts.open(tmp_path, "validation") is None
