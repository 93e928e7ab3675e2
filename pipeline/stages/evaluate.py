"""evaluate: measure the trained model on the held-out test documents."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.config.evaluation import EvaluateConfig
from pipeline.errors import DivergedError
from pipeline.stages.contract import Stage, StageContext


def run(context: StageContext) -> dict[str, Any]:
    """Write `evaluation.json`: scores of the test split and of each source in it, baselines, and samples."""
    from pipeline.corpus.documents import read_documents
    from pipeline.evaluation.heldout import HeldOut, score_documents
    from pipeline.evaluation.models import load_trained, pick_device
    from pipeline.evaluation.scores import score
    from pipeline.tokens.reader import PackedSplit

    section = context.section
    assert isinstance(section, EvaluateConfig)
    test_documents = context.inputs["curate"] / "test"
    test = PackedSplit.open(context.inputs["pack"], context.inputs["encode"], "test")
    heldout = HeldOut.read((document.source, document.text) for document in read_documents(test_documents))
    device = pick_device()
    model = load_trained(context.inputs["train"] / "model", device)
    with context.progress.task("scoring", total=test.target_tokens, unit="tokens") as task:
        batch_size = section.per_device_eval_batch_size
        totals = score_documents(model, test, heldout, batch_size, device, stride=section.stride, on_tokens=task.update)
    if not math.isfinite(sum(part.nll for part in totals.values())):
        raise DivergedError(
            "evaluate: the model's loss on the test split is not finite: training diverged; lower train.learning_rate"
        )
    with context.progress.task("metrics", total=len(totals) + 1, unit="sources") as task:
        overall = score(list(totals.values()), section.metrics)
        task.update()
        sources = {}
        for name, part in totals.items():
            sources[name] = score([part], section.metrics)
            task.update()
    evaluation = {
        "test": overall,
        "sources": sources,
        "baselines": _baselines(context, test, overall["bytes"]) if section.baselines else {},
        "samples": _samples(context, model, device, test, test_documents),
    }
    atomic.write_json(context.output / "evaluation.json", evaluation)
    return evaluation


def _baselines(context: StageContext, test: Any, test_bytes: int) -> dict[str, Any]:
    from pipeline.evaluation.baselines import unigram, xz
    from pipeline.tokens.reader import PackedSplit

    train = PackedSplit.open(context.inputs["pack"], context.inputs["encode"], "train")
    curate = context.inputs["curate"]
    with context.progress.task("baselines", total=2, unit="kinds") as task:
        results = {"unigram": unigram(train, test, test_bytes)}
        task.update()
        results |= xz(curate / "train", curate / "test", test_bytes, context.num_workers)
        task.update()
    return results


def _samples(context: StageContext, model: Any, device: Any, test: Any, documents: Path) -> list[dict[str, str]]:
    from pipeline.corpus.documents import count_documents, read_texts
    from pipeline.evaluation.samples import openings, write_samples
    from pipeline.tokens.training import load_tokenizer

    assert isinstance(context.section, EvaluateConfig)
    section = context.section.samples
    prompts = section.prompts or list(openings(read_texts(documents), count_documents(documents), section.num_samples))
    samples = []
    with context.progress.task("samples", total=len(prompts), unit="texts") as task:
        for sample in write_samples(
            model,
            load_tokenizer(context.inputs["train"] / "model"),
            prompts,
            section,
            context.seed,
            eos_token_id=test.eos_token_id,
            pad_token_id=test.pad_token_id,
            device=device,
        ):
            samples.append(sample)
            task.update()
    return samples


STAGE = Stage(
    name="evaluate",
    version=1,
    run=run,
    inputs=("train", "pack/train", "pack/test", "curate/train", "curate/test"),
    reads=("encode",),
    seeded=True,
)
