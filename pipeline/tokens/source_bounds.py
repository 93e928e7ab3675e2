"""Where the documents of each source lie in a token stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline.corpus.document_shards import read_tables, shard_paths
from pipeline.tokens.token_streams import INDEX


def bounds_of_sources(documents: Path, stream: Path) -> list[dict[str, Any]]:
    """Neighbouring documents of one source in a folder of shards: `name`, `documents`, and `first_document`,
    `first_token` and `tokens` in the stream that was made of them."""
    found: list[dict[str, Any]] = []
    for path in shard_paths(documents):
        for table in read_tables(path, ["source"]):
            runs = pc.run_end_encode(table.column("source").combine_chunks())
            lengths = np.diff(np.asarray(runs.run_ends), prepend=0)
            for name, count in zip(runs.values.to_pylist(), lengths.tolist(), strict=True):
                if not found or found[-1]["name"] != name:
                    found.append({"name": name, "documents": 0})
                found[-1]["documents"] += count
    ends = np.memmap(stream / INDEX, dtype="<u8", mode="r") if found else np.zeros(0, np.uint64)
    document = token = 0
    for run in found:
        run["first_document"], run["first_token"] = document, token
        document += run["documents"]
        run["tokens"] = int(ends[document - 1]) - token
        token += run["tokens"]
    return found
