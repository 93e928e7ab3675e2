"""How well a tokenizer fits texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from tokenizers import Tokenizer

from pipeline.tokens.round_trip import RoundTrip
from pipeline.tokens.tokenizer_folder import encode_texts

SAMPLE_BYTES = 8 * 2**20
"""Text on which a tokenizer is described."""


@dataclass
class TextSample:
    """Evenly spaced texts of a stream of unknown length, at most SAMPLE_BYTES in all (or one text)."""

    texts: list[str] = field(default_factory=list)
    _size: int = 0
    _seen: int = 0
    _step: int = 1

    def watch(self, texts: Iterable[str]) -> Iterator[str]:
        """Pass `texts` through, keeping every n-th, with n doubled whenever they become too many."""
        for text in texts:
            if self._seen % self._step == 0:
                self.texts.append(text)
                self._size += len(text.encode())
                while self._size > SAMPLE_BYTES and len(self.texts) > 1:
                    self.texts = self.texts[::2]
                    self._size = sum(len(kept.encode()) for kept in self.texts)
                    self._step *= 2
            self._seen += 1
            yield text


@dataclass(frozen=True)
class TokenizerFigures:
    """How well a tokenizer fits texts."""

    vocab_size: int
    bytes_per_token: float
    fertility: float
    """Tokens a word; words are separated by whitespace."""
    vocabulary_used: float
    """The part of the ordinary vocabulary that occurs in the texts."""
    sample_bytes: int
    round_trip: dict[str, Any]
    """`RoundTrip.summary` of the texts."""

    def summary(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def measure_tokenizer(tokenizer: Tokenizer, texts: list[str]) -> TokenizerFigures:
    """Measure a tokenizer on texts, which must not all be empty."""
    used: set[int] = set()
    num_tokens = 0
    round_trip = RoundTrip()
    for start in range(0, len(texts), 1000):
        batch = texts[start : start + 1000]
        documents = encode_texts(tokenizer, batch)
        round_trip.add(batch, tokenizer.decode_batch(documents, skip_special_tokens=False))
        used.update(chain.from_iterable(documents))
        num_tokens += sum(map(len, documents))
    num_bytes = sum(len(text.encode()) for text in texts)
    num_words = sum(len(text.split()) for text in texts)
    return TokenizerFigures(
        vocab_size=tokenizer.get_vocab_size(),
        bytes_per_token=num_bytes / max(1, num_tokens),
        fertility=num_tokens / max(1, num_words),
        vocabulary_used=len(used) / (tokenizer.get_vocab_size() - 2),
        sample_bytes=num_bytes,
        round_trip=round_trip.summary(),
    )
