"""Words are counted in tables of one size, and those that say little are replaced."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import word_counts
from pipeline.corpus.augment_config import AugmentConfig
from pipeline.corpus.augmentations import Draw
from pipeline.corpus.edits import apply_edits
from pipeline.corpus.word_counts import WordCounts

COMMON = [f"common{letter}" for letter in "abcdefghijklmnop"]
TEXTS = [f"Topic{chr(97 + n % 26)}{chr(97 + n // 26)} {' '.join(COMMON[n % 7 : n % 7 + 5])} often." for n in range(200)]


def test_idf_is_that_of_the_documents() -> None:
    counts = WordCounts.of_texts(["one two two", "one three", "one\n    two_code", "four five six"])
    assert counts.num_documents == 4
    assert counts.idf_of("one") == math.log(4 / 3)
    assert counts.idf_of("two") == counts.idf_of("four") == counts.idf_of("unknown") == math.log(4)
    assert counts.occurrences.sum() == 9


@pytest.mark.parametrize("num_buckets", [7, word_counts.NUM_BUCKETS])
def test_tables_of_parts_add_up_in_any_order(tmp_path: Path, num_buckets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_counts, "NUM_BUCKETS", num_buckets)
    whole = WordCounts.of_texts(TEXTS)
    parts = [WordCounts.of_texts(TEXTS[first::3]) for first in range(3)]
    for order in ([0, 1, 2], [2, 0, 1]):
        total = WordCounts.of_texts(())
        for number in order:
            parts[number].save(tmp_path / "part.npz")
            total.add(WordCounts.load(tmp_path / "part.npz"))
        assert total.num_documents == 200
        for name in ("documents", "occurrences", "words"):
            np.testing.assert_array_equal(getattr(total, name), getattr(whole, name))


def test_words_are_drawn_as_they_say_little() -> None:
    # Scores: a 3 * log(3/3) = 0, b 2 * log(3/2) = 0.81, c and d 1 * log(3/1) = 1.10, the highest, which is never drawn.
    counts = WordCounts.of_texts(["aa bb cc", "aa bb dd", "aa"])
    generator = random.Random(0)
    drawn = [counts.drawn(generator.random()) for _ in range(2000)]
    highest, second = math.log(3), 2 * math.log(1.5)
    share = highest / (highest + highest - second)
    assert set(drawn) == {"aa", "bb"}
    # The standard deviation of 2000 draws is 0.009.
    assert drawn.count("aa") / 2000 == pytest.approx(share, abs=0.04)


def test_what_a_document_is_about_stays() -> None:
    counts = WordCounts.of_texts(TEXTS)
    config = AugmentConfig.model_validate({"operations": [{"type": "tf_idf", "probability": 0.4}]})
    (operation,) = config.operations
    replaced = 0
    for seed, text in enumerate(TEXTS):
        after = apply_edits(text, operation.edits(text, Draw(seed, counts)))
        assert after.split()[0] == text.split()[0]
        assert len(after.split()) == len(text.split()) == 7
        replaced += sum(a != b for a, b in zip(after.split(), text.split(), strict=True))
    # 7 words at a mean chance of 0.4, the sum of which no chance exceeds; some are replaced by themselves.
    assert 0.3 < replaced / (200 * 7) < 0.45
