"""Augmentation changes plain words and nothing else, the same way every time."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.augment_config import AugmentConfig, Augmenter
from pipeline.corpus.documents import Document
from pipeline.corpus.synonym_lexicon import SHIPPED, read_lexicon
from pipeline.errors import BadDataError

TEXT = """\
However, the "quick" method   often creates a big problem:\tuse it carefully.

    start = create(big, quick)  # start often
>>> create big start
See https://example.org/start/big?quick=often or start_big, e-mail often@big.example, big2 and Start().
Isn't it 3.5% big?  Start the job (quickly), then STOP it.
"""


def augmenter(seed: int = 1, **fields: object) -> Augmenter:
    defaults = {"fraction": 1.0, "operations": [{"type": "synonym", "probability": 1.0}]}
    return Augmenter(AugmentConfig.model_validate({**defaults, **fields}), seed)


def document(text: str = TEXT, **fields: object) -> Document:
    return Document("id", text, "s", "o", **fields)  # type: ignore[arg-type]


def test_only_plain_words_of_the_lexicon_change() -> None:
    (copy,) = augmenter().copies(document())
    assert copy.text != TEXT
    words = {word for group in read_lexicon(SHIPPED) for word in group}
    # Everything but words of the lexicon is the same, byte for byte and in the same places.
    pattern = re.compile(rf"\b(?:{'|'.join(sorted(words, key=len, reverse=True))})\b", re.IGNORECASE)
    assert pattern.sub("W", copy.text) == pattern.sub("W", TEXT)
    before, after = TEXT.splitlines(), copy.text.splitlines()
    assert after[2:5] == before[2:5]
    assert "STOP" in after[5]
    assert "Isn't it 3.5% " in after[5]


def test_capitals_are_kept() -> None:
    (copy,) = augmenter().copies(document("However, it works. However hard it is."))
    assert re.fullmatch(r"N(evertheless|onetheless), it works\. N(evertheless|onetheless) \w+ it is\.", copy.text)


def test_provenance_says_what_was_done() -> None:
    original = document("However, it works.", label="x", changes=["normalize:fix_unicode"])
    (copy,) = augmenter().copies(original)
    assert (copy.id, copy.parent, copy.label, copy.source, copy.origin) == ("id/a1", "id", "x", "s", "o")
    assert copy.changes == ["normalize:fix_unicode", "augment:synonym(1 words)"]


def test_a_document_without_plain_words_gets_no_copy() -> None:
    assert list(augmenter().copies(document("xyzzy 1 2 3 {start}"))) == []


def test_keyboard_noise_keeps_the_words_apart() -> None:
    operations = [{"type": "keyboard", "probability": 0.5}]
    (copy,) = augmenter(operations=operations).copies(document("several ordinary words stand\nin this   little text"))
    assert copy.text != "several ordinary words stand\nin this   little text"
    assert [len(word) for word in copy.text.split()] == [7, 8, 5, 5, 2, 4, 6, 4]
    assert "\nin " in copy.text
    assert "   " in copy.text


def test_copies_depend_on_seed_document_and_copy_alone() -> None:
    section = {"copies": 3, "operations": [{"type": "synonym", "probability": 0.5}]}
    first = [copy.text for copy in augmenter(**section).copies(document())]
    random.seed(99)
    np.random.seed(99)
    other = augmenter(**section)
    list(other.copies(document("However, something else comes between.")))
    assert [copy.text for copy in other.copies(document())] == first
    assert len(set(first)) > 1
    assert [copy.text for copy in augmenter(2, **section).copies(document())] != first


def test_the_global_generators_are_left_as_they_were() -> None:
    random.seed(5)
    np.random.seed(5)
    expected = (random.random(), np.random.random())
    random.seed(5)
    np.random.seed(5)
    list(augmenter().copies(document()))
    assert (random.random(), np.random.random()) == expected


@pytest.mark.parametrize(("weight", "mean"), [(0.25, 0.25), (1.0, 1.0), (2.5, 2.5)])
def test_weights_repeat_or_drop(weight: float, mean: float) -> None:
    made = augmenter(fraction=0.0)
    repeats = [made.repeats(Document(str(n), "t", "s", "o", weight=weight)) for n in range(2000)]
    assert abs(sum(repeats) / 2000 - mean) < 0.05
    assert set(repeats) == ({int(weight), int(weight) + 1} if weight % 1 else {int(weight)})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("big, large\nsmall\n", r":2: a group needs two words"),
        ("big, large\nhuge, big\n", r":2: 'big' stands in line 1 already"),
        ("big, very large\n", r":1: 'very large' is not one word"),
        ("Big, large\n", r":1: 'Big' is not one word"),
    ],
)
def test_mistakes_in_a_lexicon_are_named(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(content)
    with pytest.raises(BadDataError, match=problem):
        read_lexicon(path)


def test_a_lexicon_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_bytes(b"big, l\xffrge\n")
    with pytest.raises(BadDataError, match=r"lexicon\.txt: not UTF-8 at byte 6"):
        read_lexicon(tmp_path / "lexicon.txt")


def test_the_shipped_lexicon_is_read() -> None:
    assert len(read_lexicon(SHIPPED)) > 300


@pytest.mark.parametrize("text", ["However, it works.", "However, it often works. " * 200])
@pytest.mark.parametrize("operation", ["synonym", "keyboard"])
def test_the_chance_of_a_word_does_not_depend_on_the_length_of_the_text(text: str, operation: str) -> None:
    made = augmenter(operations=[{"type": operation, "probability": 0.2}])
    eligible = len(re.findall("However|often" if operation == "synonym" else "However|often|works", text))
    num_documents = 4000 // eligible
    changed = 0
    for number in range(num_documents):
        for copy in made.copies(Document(str(number), text, "s", "o")):
            changed += sum(a != b for a, b in zip(text.split(), copy.text.split(), strict=True))
    # 4000 draws with probability 0.2 have a standard deviation of 0.006 around it.
    assert changed / (num_documents * eligible) == pytest.approx(0.2, abs=0.025)
