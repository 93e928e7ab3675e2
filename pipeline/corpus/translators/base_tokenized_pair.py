"""Translators that form batches of sentences with a tokenizer of transformers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pipeline.corpus.pretrained_models import Model, longest_text, name_of_model, quiet
from pipeline.corpus.translators.base_translator import Translator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GROWTH = 3
"""A translation may have so many times the tokens of its sentence, and LEAST_LENGTH more."""
LEAST_LENGTH = 16


class TokenizedPair(Translator):
    """A model for each direction, each with its tokenizer in its folder."""

    forward: Model
    """From the language of the text to the other one."""

    backward: Model
    """Back to the language of the text."""

    languages: tuple[str, str] | None = None
    """Codes of both languages, for models of many: that of the text first, as `[eng_Latn, por_Latn]`."""

    beams: int = Field(default=1, ge=1, le=32)
    """Width of the beam search; 1 takes the likeliest token each time."""

    batch_sentences: int = Field(default=32, ge=1)
    """Sentences that are translated together. Another number may give another last digit, and so another word."""

    @property
    def model(self) -> str:
        """Both names."""
        return f"{name_of_model(self.forward)} > {name_of_model(self.backward)}"

    def translate(self, sentences: Sequence[str], backward: bool) -> list[str | None]:
        """In batches of sentences of about one length, formed from their order alone."""
        tokenizer, model, hf_config = self._leg(backward)
        source, target = self._languages(backward)
        if source is not None:
            tokenizer.src_lang = source
        limit = longest_text(tokenizer, hf_config)
        found: list[str | None] = [None] * len(sentences)
        with quiet():
            ids = [list(tokenizer(sentence).input_ids) for sentence in sentences]
            order = [number for number in range(len(ids)) if len(ids[number]) <= limit]
            order.sort(key=lambda number: (len(ids[number]), number))
            for first in range(0, len(order), self.batch_sentences):
                batch = order[first : first + self.batch_sentences]
                longest = len(ids[batch[-1]])
                room = min(limit - 2, GROWTH * longest + LEAST_LENGTH)
                results = self._generate(tokenizer, model, [ids[number] for number in batch], target, room)
                for number, result in zip(batch, results, strict=True):
                    found[number] = result
        return found

    @abstractmethod
    def _leg(self, backward: bool) -> tuple[PreTrainedTokenizerBase, Any, Any]:
        """Tokenizer, model and the model's configuration of one direction."""

    @abstractmethod
    def _generate(
        self, tokenizer: PreTrainedTokenizerBase, model: Any, ids: Sequence[list[int]], target: str | None, room: int
    ) -> list[str | None]:
        """Translations of at most `room` tokens; None where one had not come to its end by then."""

    def _languages(self, backward: bool) -> tuple[str | None, str | None]:
        if self.languages is None:
            return None, None
        there, back = self.languages
        return (back, there) if backward else (there, back)
