from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation import memorization
from pipeline.evaluation.memorization import longest_copies


def naive(stream: list[int], text: list[int]) -> int:
    """Length of the longest run of the text in the stream."""
    runs = [
        next((n for n in range(min(len(text) - i, len(stream) - j)) if text[i + n] != stream[j + n]),
             min(len(text) - i, len(stream) - j))
        for i in range(len(text)) for j in range(len(stream))
    ]  # fmt: skip
    return max(runs, default=0)


@pytest.mark.parametrize("at_once", [5, 64, 10**6])
def test_the_longest_copy_is_found_wherever_it_stands(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(memorization, "IDS_AT_ONCE", at_once)
    draw = np.random.default_rng(5)
    stream = draw.integers(0, 40, 300).astype(np.uint16)
    copies = [
        stream[:9],
        stream[291:],
        stream[57:83],
        draw.integers(0, 40, 30),
        stream[100:107],
        np.zeros(0, np.uint16),
    ]
    texts = [[7, *copy.tolist(), 3] for copy in copies] + [stream[10:19].tolist() + stream[200:215].tolist()]
    found = longest_copies(stream, texts)
    expected = [naive(stream.tolist(), text) for text in texts]
    assert [length for _, length in found] == [length if length >= 8 else 0 for length in expected]
    assert [length for _, length in found][2] >= 26
    assert found[3] == found[5] == (0, 0)
    for text, (start, length) in zip(texts, found, strict=True):
        run = ",".join(map(str, text[start : start + length]))
        assert run in ",".join(map(str, stream.tolist()))
