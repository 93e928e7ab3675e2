"""Packing: how token streams become training windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from pipeline.errors import BadDataError
from pipeline.section import Section
from pipeline.tokens.mixing import MixtureConfig


class PackConfig(Section):
    """Cut the streams into training sequences."""

    block_size: int = Field(default=512, ge=1)
    """Target tokens in a sequence; of a document with a label the most tokens, its end included."""

    strategy: str = "contiguous"
    """Follows from `model.task`. `contiguous` cuts the stream every `block_size` tokens, across documents: no padding,
    and every token but the first of the stream is a target exactly once. `classification` and `regression` make one
    sequence of every document that has a label, a class or a number: cut after `block_size` tokens, and padded on its
    right to the longest of its batch. A task of your own is named by its path."""

    mixture: MixtureConfig | None = None
    """Shares of the sources in what training reads. Null: an epoch reads each window once."""

    def check_fits(self, whole: Any) -> None:
        """Windows hold the stride of the evaluation, and a mixture names the sources."""
        if self.mixture is not None and whole.ingest is not None:
            self.mixture.check_sources(whole.ingest.sources)
        stride = whole.evaluate.stride
        if stride is not None and stride > self.block_size:
            raise ValueError(f"evaluate.stride {stride} is above pack.block_size {self.block_size}; lower the stride")


def special_ids(encoded: Mapping[str, Any]) -> dict[str, Any]:
    """Special token ids that pack.json copies from encode.json. Prefix and suffix are left out if they are the usual
    ones: no prefix, one end-of-document token."""
    found = {name: encoded[name] for name in ("dtype", "vocab_size", "pad_token_id", "eos_token_id")}
    usual = {"prefix_token_ids": [], "suffix_token_ids": [encoded["eos_token_id"]]}
    return found | {name: encoded[name] for name, ids in usual.items() if encoded[name] != ids}


def pack_contiguous(
    encoded: Mapping[str, Any], split: str, block_size: int, strategy: str = "contiguous"
) -> dict[str, Any]:
    """The content of a split's pack.json for contiguous windows over its stream, which encode.json describes.

    Raises BadDataError for a split that has no target token.
    """
    from pipeline.tokens.packed_split import num_windows

    stream = encoded["splits"][split]
    if stream["tokens"] < 2:
        raise BadDataError(
            f"pack: the {split} split has {stream['tokens']} tokens and needs at least 2; "
            f"give more text in ingest.sources or a larger share to {split} in curate"
        )
    return {
        "block_size": block_size,
        "strategy": strategy,
        **special_ids(encoded),
        "windows": num_windows(stream["tokens"], block_size),
        "tokens": stream["tokens"],
        "target_tokens": stream["tokens"] - 1,
        # Where the tokens change, so must the digest of this file, on which training depends.
        "stream_digest": stream["digest"],
    }
