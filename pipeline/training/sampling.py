"""Samples inside the training loop."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Tokenizer

from pipeline.evaluation.samples import openings, pad_token_id_of, write_samples
from pipeline.modeling.module_hooks import uncompiled
from pipeline.modeling.sharding import reshard
from pipeline.telemetry.markdown import sample_markdown
from pipeline.tokens.packed_split import PackedSplit
from pipeline.tokens.tokenizer_folder import load_tokenizer
from pipeline.training.train_state import TrainState

OPENING_TOKENS = 64
"""From which the first words of a document are taken."""


def sample(state: TrainState) -> str:
    """What the weights of now write, as `train.samples` says, as Markdown. All processes call it. Changes neither the
    model nor any random state, and compiles nothing: each length would be compiled for itself. No training ends for a
    text that cannot be written, which is said once."""
    config, split, model = state.config.samples, state.validation_split, state.unwrapped_model
    assert config is not None
    assert state.tokenizer_file is not None
    assert isinstance(split, PackedSplit)
    tokenizer = load_tokenizer(state.tokenizer_file.parent)
    with state.watchdog.resting(), uncompiled(model):
        found = list(
            write_samples(
                model,
                tokenizer,
                config.prompts or list(_beginnings(split, tokenizer, config.num_samples)),
                config,
                state.seed,
                eos_token_id=split.eos_token_id,
                pad_token_id=pad_token_id_of(model),
                device=state.device,
                processes=state.processes,
                goes_on=True,
            )
        )
    reshard(state.model)
    errors = [one["error"] for one in found if "error" in one]
    if errors and not state.has_failed_to_write:
        state.has_failed_to_write = True
        state.progress.say(f"warning: {len(errors)} of {len(found)} samples are not written ({errors[0]})")
    return "\n\n---\n\n".join(map(sample_markdown, found))


def _beginnings(split: PackedSplit, tokenizer: Tokenizer, number: int) -> Iterator[str]:
    """The first words of documents of a split, evenly spaced."""
    ends = split.document_ends
    for place in range(min(number, len(ends))):
        document = place * len(ends) // min(number, len(ends))
        begin = int(ends[document - 1]) if document else 0
        ids = split.stream[begin : min(begin + OPENING_TOKENS, int(ends[document]))]
        [(opening, _)] = openings([tokenizer.decode(ids.tolist(), skip_special_tokens=True)], 1, 1)
        yield opening
