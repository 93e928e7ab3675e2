"""Sums of losses to scores, through `evaluate` modules loaded from this package: no hub, nothing in the home folder."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evaluate

METRICS_FOLDER = Path(__file__).parent / "metrics"


@dataclass(frozen=True)
class Totals:
    """Sums over a part of the held-out text. `nll` is in nats and covers all `tokens`, end-of-document ones included;
    `bytes` are UTF-8 bytes of the documents."""

    nll: float
    tokens: int
    correct: int
    bytes: int
    documents: int


def load_metric(name: str) -> evaluate.EvaluationModule:
    """A metric of this package by its file's name. Its scripts' copies and its data live in a temporary folder of this
    process, so that a read-only home, no network, and other processes doing the same do not matter."""
    folder = _process_folder()
    with _modules_in(folder):
        return evaluate.load(str(METRICS_FOLDER / f"{name}.py"), cache_dir=str(folder), keep_in_memory=True)


def score(parts: Sequence[Totals], metrics: Sequence[str], bits_a_document: int = 0) -> dict[str, Any]:
    """Scores of all parts together: `loss` in nats a token, the metrics asked for, and what they were taken over.

    Bits per byte contain `bits_a_document` for each document, which tell of it what its tokens do not.
    """
    scores: dict[str, Any] = {}
    for name in dict.fromkeys(("perplexity", *metrics)):
        module = load_metric(name)
        columns = {column: [getattr(part, column) for part in parts] for column in module.features}
        module.add_batch(**columns)
        scores |= module.compute()
    if "perplexity" not in metrics:
        del scores["perplexity"]
    counts = {unit: sum(getattr(part, unit) for part in parts) for unit in ("tokens", "bytes", "documents")}
    if "bits_per_byte" in scores:
        scores["bits_per_byte"] += bits_a_document * counts["documents"] / counts["bytes"]
    return scores | counts


def score_predictions(predictions: Any, references: Any, metrics: Sequence[str]) -> dict[str, float | None]:
    """Each metric of predicted labels, (n,), against the true ones; None where it is not defined."""
    scores: dict[str, float | None] = {}
    for name in metrics:
        module = load_metric(name)
        module.add_batch(predictions=predictions, references=references)
        scores |= module.compute()
    return scores


@functools.cache
def _process_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="descent-metrics-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def _modules_in(folder: Path) -> Iterator[None]:
    """Make `evaluate.load`, which has no argument for it, copy the scripts that it imports into `folder`."""
    before = evaluate.config.HF_MODULES_CACHE
    evaluate.config.HF_MODULES_CACHE = folder / "modules"
    try:
        yield
    finally:
        evaluate.config.HF_MODULES_CACHE = before
