"""evaluate: measure the trained model on the held-out test documents."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.config import Config
from pipeline.engine.stage import Stage, StageContext
from pipeline.errors import DivergedError
from pipeline.evaluation.evaluate_config import METRICS_OF_TASK, PRIMARY_METRIC, EvaluateConfig, Metric, main_metric

NO_BITS = "no bits per byte are given, and none of xz, since text is lost (see encode)"
ONE_BIT_MORE = "bits per byte have one bit more for each document, to tell which begin with a space that is lost"


def run(context: StageContext) -> dict[str, Any]:
    """Write `evaluation.json`: scores of the test split and of each source in it, baselines, and samples; with labels,
    no samples but `predictions.parquet`, of each test document.

    Where test documents do not come back from their tokens, there are no bits per byte and no baselines: the bits would
    be of another text. `withheld` then says so. Where they come back but for a space at their beginning, one bit a
    document is charged for telling whether there is one.
    """
    from pipeline.tokens.labelled_split import LabelledSplit, open_split

    test = open_split(context.inputs["pack"], context.inputs["encode"], "test")
    is_labelled = isinstance(test, LabelledSplit)
    evaluation = _evaluate_labels(context, test) if is_labelled else _evaluate_text(context, test)
    atomic.write_json(context.output / "evaluation.json", evaluation)
    return evaluation


def _evaluate_text(context: StageContext, test: Any) -> dict[str, Any]:
    from pipeline.corpus.document_shards import read_documents
    from pipeline.evaluation.heldout import HeldOut, score_documents
    from pipeline.evaluation.scores import score
    from pipeline.evaluation.trained_model import load_trained, pick_device
    from pipeline.tokens.round_trip import is_whole, loss_in_words

    config = context.config
    assert isinstance(config, EvaluateConfig)
    round_trip = json.loads((context.inputs["encode"] / "encode.json").read_bytes())["splits"]["test"]["round_trip"]
    lost = "" if is_whole(round_trip) else loss_in_words(round_trip, "test documents")
    bits_a_document = int(not lost and round_trip["lost_first_spaces"] > 0)
    main: Metric = "perplexity" if lost else PRIMARY_METRIC["causal_lm"]
    metrics = [main, *(name for name in config.metrics or METRICS_OF_TASK["causal_lm"] if name != "bits_per_byte")]
    test_documents = context.inputs["curate"] / "test"
    heldout = HeldOut.read((document.source, document.text) for document in read_documents(test_documents))
    device = pick_device()
    model = load_trained(context.inputs["train"] / "model", device)
    with context.progress.task("scoring", total=test.target_tokens, unit="tokens") as task:
        batch_size = config.per_device_eval_batch_size
        totals = score_documents(model, test, heldout, batch_size, device, stride=config.stride, on_tokens=task.update)
    if not math.isfinite(sum(part.nll for part in totals.values())):
        raise DivergedError(
            "evaluate: the model's loss on the test split is not finite: training diverged; lower train.learning_rate"
        )
    with context.progress.task("metrics", total=len(totals) + 1, unit="sources") as task:
        overall = score(list(totals.values()), metrics, bits_a_document)
        task.update()
        sources = {}
        for name, part in totals.items():
            sources[name] = score([part], metrics, bits_a_document)
            task.update()
    return {
        "task": "causal_lm",
        "test": overall,
        "sources": sources,
        "baselines": _baselines(context, test, overall, bits_a_document) if config.baselines and not lost else {},
        "samples": _samples(context, model, device, test, test_documents),
        "round_trip": round_trip,
        "withheld": {"bits_per_byte": lost} if lost else {},
        "warnings": [NO_BITS] if lost else [ONE_BIT_MORE] if bits_a_document else [],
    }


def _evaluate_labels(context: StageContext, test: Any) -> dict[str, Any]:
    from pipeline.corpus.document_shards import read_documents
    from pipeline.evaluation.predictions import score_labels, tell, write_predictions
    from pipeline.evaluation.trained_model import load_trained, pick_device
    from pipeline.modeling.heads import task_of
    from pipeline.tokens.labelled_split import LabelledSplit

    config = context.config
    assert isinstance(config, EvaluateConfig)
    device = pick_device()
    model = load_trained(context.inputs["train"] / "model", device)
    task = task_of(model.config)
    names = model.config.id2label
    classes = [names[number] for number in range(len(names))] if task == "classification" else None
    with context.progress.task("scoring", total=len(test), unit="docs") as bar:
        logits = tell(model, test, config.per_device_eval_batch_size, device, bar.update)
    every = [(document.id, document.source) for document in read_documents(context.inputs["curate"] / "test")]
    ids, sources = zip(*(every[index] for index in test.documents), strict=True)
    train = LabelledSplit.open(context.inputs["pack"], context.inputs["encode"], "train")
    metrics = list(dict.fromkeys((PRIMARY_METRIC[task], *(config.metrics or METRICS_OF_TASK[task]))))
    found = score_labels(logits, train, test, sources, metrics, classes, with_baseline=config.baselines)
    write_predictions(context.output, ids, logits, test, classes)
    packed = json.loads((context.inputs["pack"] / "test/pack.json").read_bytes())
    return {"task": task, **found, "samples": [], "left_out": packed["dropped"]}


def _baselines(context: StageContext, test: Any, overall: dict[str, Any], bits_a_document: int) -> dict[str, Any]:
    from pipeline.evaluation.baselines import unigram, xz
    from pipeline.tokens.reader import PackedSplit

    train = PackedSplit.open(context.inputs["pack"], context.inputs["encode"], "train")
    curate = context.inputs["curate"]
    with context.progress.task("baselines", total=2, unit="kinds") as task:
        results = {"unigram": unigram(train, test, overall["bytes"], bits_a_document)}
        task.update()
        results |= xz(curate / "train", curate / "test", overall["bytes"], context.num_workers)
        task.update()
    return results


def _samples(context: StageContext, model: Any, device: Any, test: Any, documents: Path) -> list[dict[str, str]]:
    from pipeline.corpus.document_shards import count_documents, read_texts
    from pipeline.evaluation.samples import openings, write_samples
    from pipeline.tokens.tokenizer_folder import load_tokenizer

    assert isinstance(context.config, EvaluateConfig)
    config = context.config.samples
    prompts = config.prompts or list(openings(read_texts(documents), count_documents(documents), config.num_samples))
    samples = []
    with context.progress.task("samples", total=len(prompts), unit="texts") as task:
        for sample in write_samples(
            model,
            load_tokenizer(context.inputs["train"] / "model"),
            prompts,
            config,
            context.seed,
            eos_token_id=test.eos_token_id,
            pad_token_id=test.pad_token_id,
            device=device,
        ):
            samples.append(sample)
            task.update()
    return samples


def main_result(evaluation: Mapping[str, Any]) -> str:
    """The figure by which a run is judged, on the held-out documents, from the summary of its evaluation."""
    metric = main_metric(evaluation)
    remark = " (no bits per byte: its tokenizer loses text)" if evaluation.get("withheld") else ""
    return f"{evaluation['test'][metric]:.3f} {metric.replace('_', ' ')}{remark}"


def _draws(config: Config) -> bool:
    """The samples of a language model, unless each of their tokens is the likeliest."""
    samples = config.evaluate.samples
    are_sampled = samples.temperature > 0 and samples.top_k != 1
    return config.model.task == "causal_lm" and are_sampled and bool(samples.prompts or samples.num_samples)


STAGE = Stage(
    name="evaluate",
    version=3,
    run=run,
    inputs=("train", "pack/train", "pack/test", "curate/train", "curate/test"),
    reads=("encode",),
    draws=_draws,
    headline=main_result,
    noun="evaluation",
)
