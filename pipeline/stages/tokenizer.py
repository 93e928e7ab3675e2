"""tokenizer: train the tokenizer on the original training documents, or take that of a pretrained model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.engine.stage import Stage, StageContext
from pipeline.errors import BadDataError
from pipeline.features import features_in, files_of_key
from pipeline.pretrained.origin import Origin, check_vocabulary
from pipeline.progress import ProgressBar
from pipeline.tokens.tokenizers import AnyTokenizer, Tokenizer, TrainedTokenizer

if TYPE_CHECKING:
    from pipeline.config import Config


def run(context: StageContext[Tokenizer]) -> dict[str, Any]:
    """Write an ordinary Hugging Face tokenizer folder."""
    from pipeline.corpus.document_shards import count_documents, read_texts
    from pipeline.tokens.round_trip import loss_in_words
    from pipeline.tokens.tokenizer_figures import TextSample, measure_tokenizer
    from pipeline.tokens.tokenizer_folder import load_tokenizer, rust_threads

    config = context.config
    documents = context.inputs["curate"] / "train"
    sample = TextSample()
    total = count_documents(documents)
    with rust_threads(context.num_workers), context.progress.bar("reading", total=total, unit="docs") as task:
        config.make(_counted(sample.watch(read_texts(documents)), task), sample.texts, context.output)
        if not any(sample.texts):
            raise BadDataError("tokenizer: curate left no text to train on; see the counts of dropped documents")
        figures = measure_tokenizer(load_tokenizer(context.output), sample.texts)
    loss = loss_in_words(figures.round_trip, "sampled training documents")
    found = {"documents_in": total, **figures.summary(), "warnings": [loss] if loss else []}
    if not isinstance(config, TrainedTokenizer):
        return found
    if figures.vocab_size < config.vocab_size and (why := config.why_smaller(figures.vocab_size)):
        context.progress.say(why)
    return {"requested_vocab_size": config.vocab_size, **found}


def _counted(texts: Iterable[str], task: ProgressBar) -> Iterator[str]:
    for text in texts:
        task.update()
        yield text


def _check(config: Config) -> None:
    if isinstance(config.tokenizer, Origin):
        check_vocabulary(files_of_key(features_in(config.tokenizer)), config.tokenizer, "tokenizer")


STAGE = Stage(
    name="tokenizer",
    version=2,
    config=AnyTokenizer,
    run=run,
    inputs=("curate/train",),
    libraries=("tokenizers", "transformers"),
    early_warnings=lambda config: config.early_warnings(),
    check=_check,
)
