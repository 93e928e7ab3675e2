"""What every tokenizer has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.errors import ConfigError
from pipeline.features import Feature

if TYPE_CHECKING:
    import tokenizers

PAD_TOKEN, EOS_TOKEN = "<pad>", "<|endoftext|>"
PAD_ID, EOS_ID = 0, 1
"""Ids of the special tokens of what is trained here. (Grok-1 masks id 0.)"""

SMALLEST_VOCABULARY = 258
"""All 256 bytes, padding and end of document."""


class Tokenizer(Feature):
    """How text becomes tokens: trained on the training documents, without their augmented copies, or taken."""

    is_bound: ClassVar[bool] = True
    """Whether `num_tokens` is only an upper bound."""

    @abstractmethod
    def num_tokens(self) -> int:
        """Tokens of the vocabulary, as far as they are known before it is made; what `estimate` goes by."""

    @abstractmethod
    def make(self, texts: Iterable[str], sample: Sequence[str], folder: Path) -> None:
        """Write a folder that `AutoTokenizer.from_pretrained` loads. It must read all `texts`, once; that fills
        `sample` with some of them."""

    def early_warnings(self) -> list[str]:
        """Warnings that its settings allow before it is made. It must be cheap, and is no promise."""
        return []


class TrainedTokenizer(Tokenizer):
    """A tokenizer that is trained here."""

    vocab_size: int = Field(default=8192, ge=SMALLEST_VOCABULARY, le=2**20)
    """Largest number of tokens, 256 bytes and 2 special tokens included; the most frequent are taken. A small corpus
    may give fewer."""

    min_frequency: int = Field(default=2, ge=1)
    """A pair of tokens is merged, or a character becomes a token, only when it occurs at least this often."""

    @abstractmethod
    def train(self, texts: Iterable[str]) -> tokenizers.Tokenizer:
        """Train on `texts`, which are read once. Id 0 is to be `<pad>` and id 1 `<|endoftext|>`.

        The same texts in the same order give the same tokenizer for any number of threads.
        """

    def num_tokens(self) -> int:
        """`vocab_size`."""
        return self.vocab_size

    def make(self, texts: Iterable[str], sample: Sequence[str], folder: Path) -> None:
        """Train and save. Raises ConfigError where the special tokens are not in their places."""
        from pipeline.tokens.tokenizer_folder import save_tokenizer

        tokenizer = self.train(texts)
        if (tokenizer.token_to_id(PAD_TOKEN), tokenizer.token_to_id(EOS_TOKEN)) != (PAD_ID, EOS_ID):
            raise ConfigError(
                f"tokenizer.type: {self.type} gives a vocabulary without {PAD_TOKEN} as id {PAD_ID} and {EOS_TOKEN} as "
                f"id {EOS_ID}; let its `train` put them there"
            )
        save_tokenizer(tokenizer, folder)

    def why_smaller(self, num_tokens: int) -> str | None:
        """What is said of a vocabulary with fewer tokens than were asked for."""
        return None
