"""tokenizer: train the tokenizer on the original training documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.config.tokens import TokenizerConfig
from pipeline.errors import BadDataError
from pipeline.progress import Task
from pipeline.stages.contract import Stage, StageContext


def run(context: StageContext) -> dict[str, Any]:
    """Write an ordinary Hugging Face tokenizer folder."""
    from pipeline.corpus.documents import count_documents, read_texts
    from pipeline.tokens.training import TextSample, describe, rust_threads, save_tokenizer, train_tokenizer

    section = context.section
    assert isinstance(section, TokenizerConfig)
    documents = context.inputs["curate"] / "train"
    sample = TextSample()
    total = count_documents(documents)
    with rust_threads(context.num_workers), context.progress.task("reading", total=total, unit="docs") as task:
        tokenizer = train_tokenizer(_counted(sample.watch(read_texts(documents)), task), section)
        if not any(sample.texts):
            raise BadDataError("tokenizer: curate left no text to train on; see the counts of dropped documents")
        figures = describe(tokenizer, sample.texts)
    save_tokenizer(tokenizer, context.output)
    if figures.vocab_size < section.vocab_size:
        context.progress.say(
            f"vocabulary of {figures.vocab_size:,} instead of {section.vocab_size:,} tokens: no other pair occurs "
            f"{section.min_frequency} times in the training text"
        )
    return {"requested_vocab_size": section.vocab_size, "documents_in": total, **figures.summary()}


def _counted(texts: Iterable[str], task: Task) -> Iterator[str]:
    for text in texts:
        task.update()
        yield text


STAGE = Stage(name="tokenizer", version=1, run=run, inputs=("curate/train",), libraries=("tokenizers",))
