"""How likely a language model finds an answer after its question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from pipeline.evaluation.benchmarks.base_benchmark import Exported
from pipeline.evaluation.losses import model_logits, on_device, token_losses
from pipeline.modeling.inputs import evaluating
from pipeline.tokens.packed_split import IGNORED_LABEL
from pipeline.tokens.template import Template
from pipeline.tokens.tokenizer_folder import encode_texts, load_tokenizer, read_vocabulary

AT_ONCE = 1024
"""Answers that are encoded and sorted by length at once. Bounds the memory that their contexts take."""


class Likelihood(NamedTuple):
    """The log-likelihood of an answer in nats, None where the answer alone is longer than the longest input, and
    whether its context lost its beginning."""

    nats: float | None
    is_cut: bool


class _Row(NamedTuple):
    """The input of an answer, without its last token, the ids of the answer, which end it, and whether it was cut."""

    ids: list[int]
    answer: list[int]
    is_cut: bool


def answer_likelihoods(
    exported: Exported, answers: Sequence[tuple[str, str]], on_answers: Callable[[int], None]
) -> Iterator[Likelihood]:
    """How likely each answer is after its context, as lm-evaluation-harness has it: both are encoded
    together, as the tokenizer gives texts to its user, and what lies beyond the context's own tokens is the answer; a
    context that ends in spaces hands them to the answer; too long a context loses its beginning; an empty one is an
    end of document.

    Processes share out the work; each gets all. `on_answers` is told how many were just computed.
    """
    rest = iter(_rows(exported, answers))
    while rows := list(islice(rest, AT_ONCE)):
        fitting = [number for number, row in enumerate(rows) if len(row.answer) <= exported.max_length]
        fitting.sort(key=lambda number: -len(rows[number].ids))
        size = exported.batch_size
        batches = [[rows[number] for number in fitting[start : start + size]] for start in range(0, len(fitting), size)]
        found: list[float | None] = [None] * len(rows)
        done = iter(fitting)
        with evaluating(exported.trained.model):
            for likelihoods in exported.trained.processes.in_turns(batches, lambda batch: _compute(exported, batch)):
                for likelihood in likelihoods:
                    found[next(done)] = likelihood
                on_answers(len(likelihoods))
        yield from (Likelihood(nats, row.is_cut) for nats, row in zip(found, rows, strict=True))


def _rows(exported: Exported, answers: Sequence[tuple[str, str]]) -> Iterator[_Row]:
    tokenizer = load_tokenizer(exported.folder)
    prefix = list(Template.of(tokenizer).prefix)
    opening = prefix or [read_vocabulary(exported.folder, tokenizer).eos_token_id]
    for start in range(0, len(answers), AT_ONCE):
        pairs = [(context.rstrip(), context + answer) for context, answer in answers[start : start + AT_ONCE]]
        contexts = encode_texts(tokenizer, [context for context, _ in pairs])
        wholes = encode_texts(tokenizer, [whole for _, whole in pairs])
        for context, whole in zip(contexts, wholes, strict=True):
            split = min(len(context), len(whole) - 1)  # the last token is the answer's, even if it began before it
            ids = [*(prefix if split else opening), *whole][:-1]
            yield _Row(ids[-exported.max_length :], whole[split:], len(ids) > exported.max_length)


def _compute(exported: Exported, rows: Sequence[_Row]) -> list[float]:
    shape = len(rows), max(len(row.ids) for row in rows)
    ids, labels = np.zeros(shape, dtype=np.int64), np.full(shape, IGNORED_LABEL, dtype=np.int64)
    for number, row in enumerate(rows):
        end = len(row.ids)
        ids[number, :end] = row.ids
        labels[number, end - len(row.answer) : end] = row.answer
    batch = on_device({"input_ids": ids, "labels": labels}, exported.trained.device)
    # A learned prompt has logits as well.
    logits = model_logits(exported.trained.model, batch)[:, -shape[1] :]
    nll, _ = token_losses(logits, batch["labels"])
    return (-nll.double().sum(-1)).tolist()
