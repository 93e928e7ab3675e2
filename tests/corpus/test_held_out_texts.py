"""A training document that holds most of a held-out one is found, whatever was done to the text."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import held_out_texts
from pipeline.corpus.corpus_jobs import Jobs
from pipeline.corpus.held_out_texts import HeldOutTexts, HeldOutWriter
from pipeline.corpus.shingles import words_of
from pipeline.executors.local_session import LocalSession
from pipeline.progress import Progress


def held_out(folder: Path, texts: list[list[str]]) -> HeldOutTexts:
    """Of shards of texts."""
    folders = [folder / f"shard-{number}" for number in range(len(texts))]
    first = 0
    for place, shard in zip(folders, texts, strict=True):
        place.mkdir()
        with HeldOutWriter(place) as writer:
            writer.write(words_of(shard), np.arange(first, first + len(shard), dtype=np.uint32))
        first += len(shard)
    with LocalSession(1) as session:
        jobs = Jobs(session, Progress("curate", io.StringIO()), folder)
        HeldOutTexts.gather(jobs, folders, first, folder / "held_out")
    found = HeldOutTexts.open(folder / "held_out")
    assert found is not None
    return found


def is_held_by(found: HeldOutTexts, text: str) -> bool:
    return bool(found.held_by(words_of([text]))[0] >= 0)


def share_held(own: str, other: str) -> float:
    """The part of the runs of five words of a text that another holds, by sets of tuples."""
    mine, theirs = ({tuple(words[n : n + 5]) for n in range(len(words) - 4)} for words in (own.split(), other.split()))
    return len(mine & theirs) / len(mine)


@pytest.mark.parametrize("pairs", [7, 4_000_000])
def test_texts_that_hold_four_fifths_of_a_document_are_those_that_sets_of_tuples_find(
    tmp_path: Path, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out_texts, "PAIRS", pairs)
    draw = random.Random(0)
    words = [f"word{n}" for n in range(40)]
    documents = [" ".join(draw.choices(words, k=draw.randint(14, 60))) for _ in range(30)]
    found = held_out(tmp_path, [documents[:11], [], documents[11:]])
    texts, shares = [], []
    for _ in range(400):
        pieces = draw.choice(documents).split()
        for _ in range(draw.randint(0, 4)):
            pieces[draw.randrange(len(pieces))] = draw.choice(words)
        texts.append(" ".join([*draw.choices(words, k=draw.randint(0, 30)), *pieces]))
        shares.append([share_held(document, texts[-1]) for document in documents])
    firsts = [next((n for n, share in enumerate(some) if share >= 0.8), -1) for some in shares]
    assert found.held_by(words_of(texts)).tolist() == firsts
    assert 50 < firsts.count(-1) < 350


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
    assert is_held_by(held_out(tmp_path, [documents]), text) is is_held


def test_sources_without_documents_hold_nothing(tmp_path: Path) -> None:
    assert not is_held_by(held_out(tmp_path, [[]]), "The quick brown fox jumps over the lazy dog, and sleeps there.")
    assert HeldOutTexts.open(tmp_path / "nothing") is None


def test_a_paragraph_within_a_long_document_is_found(tmp_path: Path) -> None:
    draw = random.Random(0)
    words = [f"word{n}" for n in range(500)]
    paragraphs = [" ".join(draw.choices(words, k=60)) for _ in range(50)]
    pages = [" ".join(draw.choices(words, k=20_000)) for _ in range(3)]
    pages[1] = f"{pages[1]}\n\n{paragraphs[33].upper()}.\n\n{pages[2]}"
    assert held_out(tmp_path, [paragraphs]).held_by(words_of(pages)).tolist() == [-1, 33, -1]


def test_what_many_documents_end_with_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A footer stays a part of the first documents that have it; of the others their own text is looked for."""
    monkeypatch.setattr(held_out_texts, "MOST_OWNERS", 3)
    footer = " ".join(f"footer{n}" for n in range(30))
    own = [" ".join(f"own{document}x{n}" for n in range(20)) for document in range(9)]
    found = held_out(tmp_path, [[f"{text} {footer}" for text in own[:5]], [f"{text} {footer}" for text in own[5:]]])
    both = [f"{text} {footer}" for text in own]
    assert found.lengths.tolist() == [46, 46, 46, *[20] * 6]  # the runs that end in the footer are a document's own
    assert found.held_by(words_of(both)).tolist() == list(range(9))
    assert found.held_by(words_of([footer, *own])).tolist() == [-1, -1, -1, -1, *range(3, 9)]
