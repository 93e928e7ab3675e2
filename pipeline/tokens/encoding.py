"""Encode documents into a token stream, on all cores and with flat memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from pipeline.tokens.streams import StreamWriter, id_dtype
from pipeline.tokens.training import Vocabulary

METADATA_TOKENIZER = "tokenizer"
"""Name of the tokenizer in datatrove's metadata: the artifact beside, not a path of this machine."""


def encode_documents(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    folder: Path,
    batch_bytes: int,
    on_batch: Callable[[int], None] = lambda documents: None,
) -> dict[str, Any]:
    """Write the stream of `texts` into `folder`, in their order, and return its tokens, documents and digest.

    `tokenizer` is one of `load_tokenizer`. Texts are encoded alone, so that batches and threads leave no trace in the
    result. `on_batch` is told how many documents were just written.
    """
    with StreamWriter(folder, id_dtype(vocabulary.size), METADATA_TOKENIZER) as writer:
        for batch in batches_of_bytes(texts, batch_bytes):
            encodings = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            documents = [encoding.ids for encoding in encodings]
            lengths = np.array([len(ids) + 1 for ids in documents], dtype=np.int64)
            eos = (vocabulary.eos_token_id,)
            ids = chain.from_iterable(chain(ids, eos) for ids in documents)
            writer.write(np.fromiter(ids, dtype=np.int64, count=int(lengths.sum())), lengths)
            on_batch(len(batch))
        return {"tokens": writer.num_tokens, "documents": writer.num_documents, "digest": writer.digest}


def batches_of_bytes(texts: Iterable[str], limit_bytes: int) -> Iterator[list[str]]:
    """Consecutive texts, each batch of at least `limit_bytes` UTF-8 bytes (but for the last), ended by the text that
    reaches it."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text.encode())
        if size >= limit_bytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
