"""The `tokenizer:`, `encode:` and `pack:` sections: from documents to training sequences."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.pretrained.origin import Origin
from pipeline.section import Runtime, Section

SMALLEST_VOCABULARY = 258
"""All 256 bytes, padding and end of document."""

TRAINING_SETTINGS = ("vocab_size", "min_frequency", "split_pattern", "split_digits")
"""Settings that shape a tokenizer which is trained here."""


class TokenizerConfig(Origin):
    """Train the tokenizer on the training documents, without their augmented copies, or take a pretrained model's."""

    type: Literal["byte_level_bpe", "characters", "pretrained"] = "byte_level_bpe"
    """`byte_level_bpe`: byte-pair encoding over UTF-8 bytes. `characters`: each character is a token, and one that is
    not in the vocabulary is spelled as bytes. With both every text can be encoded and comes back byte for byte.
    `pretrained`: that of the folder or repository `pretrained`, for fine-tuning; nothing is trained."""

    vocab_size: int = Field(default=8192, ge=SMALLEST_VOCABULARY, le=2**20)
    """Largest number of tokens, the 256 bytes and 2 special tokens included. A small corpus may give fewer. Of
    characters the most frequent are taken."""

    min_frequency: int = Field(default=2, ge=1)
    """A pair of tokens is merged, or a character becomes a token, only when it occurs at least this often."""

    split_pattern: Literal["gpt4", "gpt2"] = "gpt4"
    """Where text is cut before merging; no token crosses a cut. `gpt4` keeps at most three digits together, line
    breaks apart from words and any one character before a word with it; `gpt2` is the older pattern."""

    split_digits: bool = False
    """Make every digit a token of its own."""

    @model_validator(mode="after")
    def _settings_fit_the_type(self) -> Self:
        if self.type == "pretrained":
            if self.pretrained is None:
                raise ValueError("type pretrained needs `pretrained`, a folder or a hub repository")
            given = [name for name in TRAINING_SETTINGS if getattr(self, name) != type(self).model_fields[name].default]
            if given:
                raise ValueError(f"remove {given[0]}: a pretrained tokenizer is taken as it is")
        elif self.pretrained is not None:
            raise ValueError(f"pretrained is given, but type is {self.type}; set type: pretrained, or remove it")
        if self.type == "characters" and (self.split_digits or self.split_pattern != "gpt4"):
            raise ValueError("remove split_pattern and split_digits: characters are never joined")
        return self


class EncodeConfig(Section):
    """Turn documents into streams of token ids, one a split: each as the tokenizer gives it to its user, with special
    tokens such as `<s>`, and ended by an end-of-document token."""

    batch_bytes: Annotated[int, Runtime()] = Field(default=2 * 2**20, ge=1)
    """Text encoded at once, in UTF-8 bytes; bounds the memory, which is some 70 times as much."""


class PackConfig(Section):
    """Cut the streams into training sequences."""

    block_size: int = Field(default=512, ge=1)
    """Target tokens in a sequence; of a document with a label the most tokens, its end included."""

    strategy: Literal["contiguous", "classification", "regression"] = "contiguous"
    """Follows from `model.task`. `contiguous` cuts the stream every `block_size` tokens, across documents: no padding,
    and every token but the first of the stream is a target exactly once. `classification` and `regression` make one
    sequence of every document that has a label, a class or a number: cut after `block_size` tokens, and padded on its
    right to the longest of its batch."""
