"""Small artifacts and stage contexts for tests of tokens, evaluation and their stages."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.atomic import write_json
from pipeline.corpus.document_shards import write_shards
from pipeline.corpus.documents import Document, document_id
from pipeline.engine.stage import Stage, StageContext
from pipeline.progress import Progress
from pipeline.section import Section
from pipeline.tokens.packed_split import PackedSplit
from pipeline.tokens.packing import pack_contiguous
from pipeline.tokens.token_streams import StreamWriter, id_dtype

PROSE = [
    "The pipeline reads raw text and trains a tokenizer on it, and then a model on its tokens.",
    "A tokenizer is trained on the training documents; the model is trained on what it makes of them.",
    "Text of the test split is read by nobody before the end: the model is measured on it then.",
    "In 1948 Shannon measured the entropy of English, 12345 letters at a time.\n\nHe was right.",
    "Écrire «ça» coûte plus d'octets; 日本語もそうです。 Emoji too: 🙂🙃.",
] * 6


def write_split(folder: Path, texts: Sequence[str], sources: Sequence[str] = ("prose",)) -> None:
    """Shards of documents whose sources take turns."""
    documents = []
    for i, text in enumerate(texts):
        source = sources[i % len(sources)]
        documents.append(Document(document_id(source, str(i), text), text, source, str(i)))
    write_shards(folder, documents)


def write_streams(
    folder: Path, splits: Mapping[str, Sequence[Sequence[int]]], block_size: int, vocab_size: int
) -> None:
    """`encode` and `pack` artifacts below `folder`, from documents given as ids (end-of-document ids included)."""
    streams = {}
    for split, documents in splits.items():
        with StreamWriter(folder / "encode" / split, id_dtype(vocab_size), "tokenizer") as writer:
            ids = np.array([token for document in documents for token in document], dtype=np.int64)
            writer.write(ids, np.array([len(document) for document in documents]))
        streams[split] = {"tokens": writer.num_tokens, "documents": writer.num_documents, "digest": writer.digest}
    encoded = {
        "vocab_size": vocab_size,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "prefix_token_ids": [],
        "suffix_token_ids": [1],
        "dtype": id_dtype(vocab_size).name,
        "splits": streams,
    }
    write_json(folder / "encode" / "encode.json", encoded)
    for split in splits:
        (folder / "pack" / split).mkdir(parents=True)
        write_json(folder / "pack" / split / "pack.json", pack_contiguous(encoded, split, block_size))


def packed(folder: Path, documents: Sequence[Sequence[int]], block_size: int, vocab_size: int = 50) -> PackedSplit:
    """One packed split called test."""
    write_streams(folder, {"test": documents}, block_size, vocab_size)
    return PackedSplit.open(folder / "pack", folder / "encode", "test")


def run_stage(
    stage: Stage, section: Section, inputs: Mapping[str, Path], output: Path, *, seed: int = 7, num_workers: int = 1
) -> tuple[dict[str, Any], str]:
    """Run a stage into `output`; its summary as the manifest would hold it, and what it said."""
    output.mkdir(parents=True)
    said = io.StringIO()
    context = StageContext(section, seed, inputs, output, None, num_workers, Progress(stage.name, said))
    summary = stage.run(context)
    return json.loads(json.dumps(summary, allow_nan=False)), said.getvalue()
