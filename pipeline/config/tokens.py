"""The `tokenizer:`, `encode:` and `pack:` sections: from documents to training sequences."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.base import Runtime, Section

SMALLEST_VOCABULARY = 258
"""All 256 bytes, padding and end of document."""


class TokenizerConfig(Section):
    """Train the tokenizer on the training documents, without their augmented copies."""

    type: Literal["byte_level_bpe"] = "byte_level_bpe"
    """Byte-pair encoding over UTF-8 bytes: every text can be encoded and comes back byte for byte."""

    vocab_size: int = Field(default=8192, ge=SMALLEST_VOCABULARY, le=2**20)
    """Largest number of tokens, the 256 bytes and 2 special tokens included. A small corpus may give fewer."""

    min_frequency: int = Field(default=2, ge=1)
    """A pair of tokens is merged only when it occurs at least this often."""

    split_pattern: Literal["gpt4", "gpt2"] = "gpt4"
    """Where text is cut before merging; no token crosses a cut. `gpt4` keeps at most three digits together, line
    breaks apart from words and any one character before a word with it; `gpt2` is the older pattern."""

    split_digits: bool = False
    """Make every digit a token of its own."""


class EncodeConfig(Section):
    """Turn documents into streams of token ids, one a split."""

    batch_bytes: Annotated[int, Runtime()] = Field(default=2 * 2**20, ge=1)
    """Text encoded at once, in UTF-8 bytes; bounds the memory, which is some 70 times as much."""


class PackConfig(Section):
    """Cut the streams into training sequences."""

    block_size: int = Field(default=512, ge=1)
    """Target tokens in a sequence."""

    strategy: Literal["contiguous"] = "contiguous"
    """`contiguous` cuts the stream every `block_size` tokens, across documents: no padding, and every token but the
    first of the stream is a target exactly once."""
