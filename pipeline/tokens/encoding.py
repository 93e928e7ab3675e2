"""Encode documents into a token stream, on all cores and with flat memory.

A document stands in a stream as the tokenizer gives it to its user, special tokens such as `<s>` included, and is ended
by the end-of-document token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from pipeline.tokens.round_trip import RoundTrip
from pipeline.tokens.template import Template
from pipeline.tokens.token_streams import StreamWriter, id_dtype
from pipeline.tokens.training import Vocabulary, encode_texts

METADATA_TOKENIZER = "tokenizer"
"""Name of the tokenizer in datatrove's metadata: the artifact beside, not a path of this machine."""


def encode_documents(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    folder: Path,
    batch_bytes: int,
    on_batch: Callable[[int], None] = lambda documents: None,
    round_trip: RoundTrip | None = None,
) -> dict[str, Any]:
    """Write the stream of `texts` into `folder`, in their order, and return its tokens, documents and digest.

    `tokenizer` is one of `load_tokenizer`. Texts are encoded alone, so that batches and threads leave no trace in the
    result. `on_batch` is told how many documents were just written. With a `round_trip` all texts are decoded again
    and compared.
    """
    template = Template.of(tokenizer).ended_by(vocabulary.eos_token_id)
    num_around = len(template.prefix) + len(template.suffix)
    with StreamWriter(folder, id_dtype(vocabulary.size), METADATA_TOKENIZER) as writer:
        for batch in batches_of_bytes(texts, batch_bytes):
            documents = encode_texts(tokenizer, batch)
            lengths = np.array([len(ids) + num_around for ids in documents], dtype=np.int64)
            ids = chain.from_iterable(map(template.around, documents))
            writer.write(np.fromiter(ids, dtype=np.int64, count=int(lengths.sum())), lengths)
            if round_trip is not None:
                round_trip.add(batch, tokenizer.decode_batch(documents, skip_special_tokens=False))
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
