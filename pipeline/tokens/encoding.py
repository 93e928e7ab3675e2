"""Encode documents into a token stream, on all cores and with flat memory.

A document stands in a stream as the tokenizer gives it to its user, special tokens such as `<s>` included, and is ended
by the end-of-document token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pipeline.section import Runtime, Section

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipeline.tokens.round_trip import RoundTrip
    from pipeline.tokens.tokenizer_folder import TokenIds

METADATA_TOKENIZER = "tokenizer"
"""Name of the tokenizer in datatrove's metadata: the artifact beside, not a path of this machine."""


class EncodeConfig(Section):
    """Turn documents into streams of token ids, one a split: each as the tokenizer gives it to its user, with special
    tokens such as `<s>`, and ended by an end-of-document token."""

    batch_bytes: Annotated[int, Runtime()] = Field(default=2 * 2**20, ge=1)
    """Text encoded at once, in UTF-8 bytes; bounds the memory, which is some 70 times as much."""


def encode_documents(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    vocabulary: TokenIds,
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
    import numpy as np

    from pipeline.tokens.template import Template
    from pipeline.tokens.token_streams import StreamWriter, id_dtype
    from pipeline.tokens.tokenizer_folder import encode_texts

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
    """Batches of consecutive texts. A batch ends with the text that brings it to `limit_bytes` UTF-8 bytes or more."""
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
