"""Packing: how token streams become training windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import BadDataError
from pipeline.tokens.reader import num_windows


def pack_contiguous(encoded: Mapping[str, Any], block_size: int) -> dict[str, Any]:
    """The content of pack.json for contiguous windows over the streams that encode.json describes.

    Raises BadDataError for a split that has no target token.
    """
    splits = {}
    for name, stream in encoded["splits"].items():
        if stream["tokens"] < 2:
            raise BadDataError(
                f"pack: the {name} split has {stream['tokens']} tokens and needs at least 2; "
                f"give more text in ingest.sources or a larger share to {name} in curate"
            )
        splits[name] = {
            "windows": num_windows(stream["tokens"], block_size),
            "tokens": stream["tokens"],
            "target_tokens": stream["tokens"] - 1,
            # Where the tokens change, so must the digest of this artifact, on which training depends.
            "stream_digest": stream["digest"],
        }
    return {"block_size": block_size, "strategy": "contiguous", "dtype": encoded["dtype"], "splits": splits}
