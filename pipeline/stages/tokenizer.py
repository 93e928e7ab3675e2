"""tokenizer: train the tokenizer on the original training documents, or take that of a pretrained model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.engine.stage import Stage, StageContext
from pipeline.errors import BadDataError
from pipeline.pretrained.origin import TOKENIZER_FILES, check_vocabulary, origin_files
from pipeline.progress import Task
from pipeline.tokens.tokens_config import TokenizerConfig

# Beside a model's config.json transformers picks the tokenizer's class by the kind of model.
PATTERNS = (*TOKENIZER_FILES, "config.json")


def run(context: StageContext) -> dict[str, Any]:
    """Write an ordinary Hugging Face tokenizer folder."""
    from pipeline.corpus.documents import count_documents, read_texts
    from pipeline.tokens.round_trip import loss_in_words
    from pipeline.tokens.training import TextSample, describe, load_tokenizer, rust_threads

    config = context.config
    assert isinstance(config, TokenizerConfig)
    documents = context.inputs["curate"] / "train"
    sample = TextSample()
    total = count_documents(documents)
    with rust_threads(context.num_workers), context.progress.task("reading", total=total, unit="docs") as task:
        _make(config, _counted(sample.watch(read_texts(documents)), task), sample.texts, context.output)
        if not any(sample.texts):
            raise BadDataError("tokenizer: curate left no text to train on; see the counts of dropped documents")
        figures = describe(load_tokenizer(context.output), sample.texts)
    loss = loss_in_words(figures.round_trip, "sampled training documents")
    found = {"documents_in": total, **figures.summary(), "warnings": [loss] if loss else []}
    if config.type == "pretrained":
        return found
    if config.type == "byte_level_bpe" and figures.vocab_size < config.vocab_size:
        context.progress.say(
            f"vocabulary of {figures.vocab_size:,} instead of {config.vocab_size:,} tokens: no other pair occurs "
            f"{config.min_frequency} times in the training text"
        )
    return {"requested_vocab_size": config.vocab_size, **found}


def _make(config: TokenizerConfig, texts: Iterable[str], sample: list[str], folder: Path) -> None:
    """Read all texts, which fills `sample`, and write the tokenizer."""
    from pipeline.tokens.pretrained_tokenizer import load_pretrained_tokenizer, opened, save_pretrained_tokenizer
    from pipeline.tokens.training import save_tokenizer, train_tokenizer

    if config.type != "pretrained":
        save_tokenizer(train_tokenizer(texts, config), folder)
        return
    with opened(config, "tokenizer", PATTERNS) as source:
        tokenizer = load_pretrained_tokenizer(source, config.trust_remote_code, "tokenizer")
        for _ in texts:
            pass
        save_pretrained_tokenizer(tokenizer, folder, sample)


def _counted(texts: Iterable[str], task: Task) -> Iterator[str]:
    for text in texts:
        task.update()
        yield text


def _foresee(config: TokenizerConfig) -> list[str]:
    """What the file of a local tokenizer tells of texts that it will not give back."""
    from pipeline.tokens.round_trip import foresee_losses

    if config.type != "pretrained" or config.revision is not None:
        return []
    assert config.pretrained is not None
    try:
        tokenizer = json.loads((Path(config.pretrained).expanduser() / "tokenizer.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    parts = foresee_losses(tokenizer) if isinstance(tokenizer, dict) else []
    if not parts:
        return []
    return [
        f"the tokenizer may lose text ({', '.join(parts)}): how much of yours is measured when it is made, and by "
        "encode of the held-out documents"
    ]


def _files(config: TokenizerConfig) -> dict[str, list[Path]]:
    return origin_files(config, "tokenizer", PATTERNS)


def _check(config: Config) -> None:
    check_vocabulary(_files(config.tokenizer), config.tokenizer, "tokenizer")


STAGE = Stage(
    name="tokenizer",
    version=2,
    run=run,
    inputs=("curate/train",),
    libraries=("tokenizers", "transformers"),
    files=_files,
    foresee=_foresee,
    check=_check,
)
