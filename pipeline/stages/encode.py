"""encode: turn the documents of every split into a stream of token ids, with their labels beside it."""

from __future__ import annotations

from typing import Any

from pipeline import atomic
from pipeline.engine.stage import Stage, StageContext
from pipeline.tokens.encoding import EncodeConfig


def run(context: StageContext[EncodeConfig]) -> dict[str, Any]:
    """Write `<split>/stream.ds` with its index and metadata, `labels.parquet` where documents have labels, and
    `encode.json` which describes them all, and says what of the held-out texts does not come back from their tokens."""
    from pipeline.corpus.document_shards import count_documents, read_labels, read_texts
    from pipeline.tokens.encoding import encode_documents
    from pipeline.tokens.labels import write_labels
    from pipeline.tokens.round_trip import RoundTrip, loss_in_words
    from pipeline.tokens.source_bounds import bounds_of_sources
    from pipeline.tokens.template import Template
    from pipeline.tokens.token_streams import id_dtype
    from pipeline.tokens.tokenizer_folder import load_tokenizer, read_vocabulary, rust_threads

    config = context.config
    folders = {
        "train": context.inputs["augment"] / "train",
        "validation": context.inputs["curate"] / "validation",
        "test": context.inputs["curate"] / "test",
    }
    tokenizer = load_tokenizer(context.inputs["tokenizer"])
    vocabulary = read_vocabulary(context.inputs["tokenizer"], tokenizer)
    own = Template.of(tokenizer)
    template = own.ended_by(vocabulary.eos_token_id)
    totals = {split: count_documents(folder) for split, folder in folders.items()}
    splits: dict[str, Any] = {}
    with rust_threads(context.num_workers), context.progress.bar("encoding", sum(totals.values()), "docs") as task:
        for split, folder in folders.items():
            output = context.output / split
            # Of the training text a sample was compared when the tokenizer was made.
            round_trip = RoundTrip() if split != "train" else None
            splits[split] = encode_documents(
                read_texts(folder), tokenizer, vocabulary, output, config.batch_bytes, task.update, round_trip
            )
            assert splits[split]["documents"] == totals[split]
            if round_trip is not None:
                splits[split]["round_trip"] = round_trip.summary()
            splits[split]["labels"] = write_labels(read_labels(folder), output)
        splits["train"]["sources"] = bounds_of_sources(folders["train"], context.output / "train")
    description = {
        "vocab_size": vocabulary.size,
        "eos_token_id": vocabulary.eos_token_id,
        "pad_token_id": vocabulary.pad_token_id,
        "prefix_token_ids": template.prefix,
        "suffix_token_ids": template.suffix,
        "dtype": id_dtype(vocabulary.size).name,
        "splits": splits,
    }
    atomic.write_json(context.output / "encode.json", description)
    measured = {split: of["round_trip"] for split, of in splits.items() if "round_trip" in of}
    losses = [loss_in_words(found, f"{split} documents") for split, found in measured.items()]
    return {
        "documents_in": sum(totals.values()),
        "tokens_out": sum(stream["tokens"] for stream in splits.values()),
        "vocab_size": vocabulary.size,
        "splits": {split: {key: s[key] for key in ("tokens", "documents", "labels")} for split, s in splits.items()},
        "tokenizer_adds": {
            place: [tokenizer.id_to_token(index) for index in ids]
            for place, ids in (("before", own.prefix), ("after", own.suffix))
        },
        "round_trip": measured,
        "warnings": [loss for loss in losses if loss],
    }


STAGE = Stage(
    name="encode",
    version=4,
    config=EncodeConfig,
    run=run,
    inputs=("augment/train", "curate/validation", "curate/test", "tokenizer"),
    libraries=("tokenizers",),
    self_checked_files=("*stream.ds",),
)
