"""What a masked language model expects at places of texts."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.corpus.pretrained_models import longest_text, one_thread, open_model, quiet
from pipeline.errors import ConfigError
from pipeline.pretrained.origin import Origin

WINDOW = 256
"""Most tokens that the model sees around a place."""

LOGITS = 2**26
"""Most numbers in the logits of a batch."""

_WORD = re.compile("[a-z]{2,}|a")
_BEGIN_OF_WORD = ("Ġ", "▁")
"""What tokens begin with that follow a space, in vocabularies of bytes (RoBERTa) and of SentencePiece (XLM-R)."""


@dataclass(frozen=True)
class _Row:
    """A part of a text as the model sees it, and which of the text's places are hidden at which of its tokens."""

    ids: list[int]
    text: int
    hidden: list[tuple[int, int]]


class ExpectedWords:
    """A model with its whole words, in lower case, without those that are left out.

    Raises ConfigError where the folder holds no masked language model with a fast tokenizer.
    """

    def __init__(self, origin: Origin, where: str, top_k: int, left_out: Collection[str]) -> None:
        self._tokenizer, self._model = open_model("AutoModelForMaskedLM", origin, where)
        if not self._tokenizer.is_fast or self._tokenizer.mask_token_id is None:
            raise ConfigError(f"{where}.pretrained: {origin.pretrained} has no fast tokenizer with a mask token")
        vocabulary = sorted((index, token) for token, index in self._tokenizer.get_vocab().items())
        marks = next((mark for mark in _BEGIN_OF_WORD if any(token.startswith(mark) for _, token in vocabulary)), "")
        size = self._model.config.vocab_size
        words = {index: token[len(marks) :] for index, token in vocabulary if token.startswith(marks) and index < size}
        self._words = {index: word for index, word in words.items() if _WORD.fullmatch(word) and word not in left_out}
        if len(self._words) < 2:
            raise ConfigError(f"{where}.pretrained: the vocabulary of {origin.pretrained} has no plain English words")
        self._top_k = min(top_k + 1, len(self._words))  # one of them may be the word itself

    def expected(
        self, texts: Sequence[str], places: Sequence[Sequence[tuple[int, int]]]
    ) -> list[list[dict[str, float]]]:
        """For each place (start, stop) of each text the likeliest words there, with their probabilities among each
        other: of what is there nothing is shown to the model. Without a word where tokens lie across its bounds."""
        found: list[list[dict[str, float]]] = [[{} for _ in one] for one in places]
        rows = [row for number, text in enumerate(texts) for row in self._rows(number, text, places[number])]
        rows.sort(key=lambda row: len(row.ids))  # stable: rows of one length stay in the order of the texts
        with one_thread(), quiet():
            for batch in self._batches(rows):
                for row, words in zip(batch, self._likeliest(batch), strict=True):
                    for (place, _), one in zip(row.hidden, words, strict=True):
                        found[row.text][place] = one
        return found

    def _rows(self, number: int, text: str, places: Sequence[tuple[int, int]]) -> Iterator[_Row]:
        """The windows of a text in which a place is hidden."""
        if not places:
            return
        with quiet():
            encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, hidden = self._hide(encoded.input_ids, encoded.offset_mapping, places)
        before, after = self._around()
        room = min(longest_text(self._tokenizer, self._model.config) - 2, WINDOW) - len(before) - len(after)
        for first in range(0, len(ids), room):
            inside = [(place, at - first + len(before)) for place, at in hidden if first <= at < first + room]
            if inside:
                yield _Row([*before, *ids[first : first + room], *after], number, inside)

    def _hide(
        self, ids: Sequence[int], offsets: Sequence[tuple[int, int]], places: Sequence[tuple[int, int]]
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """The tokens with a mask in each place, and where these are."""
        starts, stops = [start for start, _ in offsets], [stop for _, stop in offsets]
        kept: list[int] = []
        hidden = []
        position = 0
        for place, (start, stop) in enumerate(places):
            # The space before a word may belong to its first token.
            first = bisect_left(stops, start + 1)
            last = bisect_left(starts, max(stop, start + 1))
            if first >= last or starts[first] < start - 1 or (stop > start and stops[last - 1] > stop):
                continue
            kept += ids[position:first]
            hidden.append((place, len(kept)))
            kept.append(self._tokenizer.mask_token_id)
            position = last if stop > start else first
        return kept + list(ids[position:]), hidden

    def _around(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""
        bare = self._tokenizer("the", add_special_tokens=False).input_ids
        whole = self._tokenizer("the").input_ids
        at = next(place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
        return whole[:at], whole[at + len(bare) :]

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Consecutive rows whose logits fit."""
        batch: list[_Row] = []
        for row in rows:
            if batch and (len(batch) + 1) * len(row.ids) * self._model.config.vocab_size > LOGITS:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _likeliest(self, batch: Sequence[_Row]) -> Iterator[list[dict[str, float]]]:
        """Of each row the likeliest words at its hidden tokens."""
        padded: Any = self._tokenizer.pad({"input_ids": [row.ids for row in batch]}, return_tensors="pt")
        logits = self._model(**padded).logits
        known = torch.tensor(list(self._words))
        for number, row in enumerate(batch):
            at = torch.tensor([place for _, place in row.hidden])
            best = logits[number, at][:, known].topk(self._top_k)
            chances = best.values.softmax(-1).tolist()
            yield [
                {self._words[int(known[index])]: chance for index, chance in zip(indices, one, strict=True)}
                for indices, one in zip(best.indices.tolist(), chances, strict=True)
            ]
