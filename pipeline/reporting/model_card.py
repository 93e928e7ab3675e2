"""The model's card: README.md of the exported model folder, as Hugging Face lays it out.

It is a result file: only what the run's identity decides may enter it, so no times, speeds, versions or runtime
settings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml

from pipeline.evaluation.metrics import METRIC_OF_KEY, Figure
from pipeline.pretrained.origin import base_name
from pipeline.reporting import formats
from pipeline.reporting.jinja_templates import render_text
from pipeline.reporting.run_data import RunData
from pipeline.tasks.base_task import COUNTS
from pipeline.tasks.task_words import TaskWords

MAX_SOURCES = 50
_TRAIN_SETTINGS = (
    "optim", "learning_rate", "lr_scheduler_type", "warmup_steps", "min_lr_ratio", "weight_decay", "adam_beta1",
    "adam_beta2", "momentum", "max_grad_norm", "global_batch_size", "mixed_precision",
)  # fmt: skip
_SMALL_TOKENS = 1e9


def render_card(run: RunData) -> str:
    """The card as Markdown with YAML front matter. The same results give the same bytes."""
    evaluation = run.summary("evaluate")
    rows = [("all of them", evaluation["test"])] if evaluation.get("test") else []
    rows += list((evaluation.get("sources") or {}).items())[:MAX_SOURCES] if rows else []
    columns = [figure for figure in run.words.figures if figure.key not in COUNTS]
    # Markdown, not HTML: `_cell` escapes what goes into tables.
    page = render_text(
        "model_card.md.j2",
        front_matter=yaml.safe_dump(front_matter(run), sort_keys=False, allow_unicode=True),
        title=_cell(run.title),
        sentence=_cell(run.sentence),
        origin=_origin(run.section("model")),
        usage=run.usage,
        adapter=_cell(run.adapter),
        notes=[_cell(note) for note in run.summary("model").get("warnings") or ()],
        prompt=json.dumps(_prompt(run), ensure_ascii=False),
        cut=_cut(run),
        sources=[
            {"name": _cell(_with_split(run, name)), "documents": of.get("documents", 0), "bytes": of.get("bytes", 0)}
            for name, of in list(run.sources.items())[:MAX_SOURCES]
        ],
        data_words=_data_words(run),
        training=_training(run),
        words=run.words,
        columns=columns,
        classes=[_cell(name) for name in run.classes[:MAX_SOURCES]],
        evaluation=[{"name": _cell(name), "figures": _figures(run, figures, columns)} for name, figures in rows],
        own=_figures(run, evaluation.get("test") or {}, [run.words.main])[0],
        has_intervals=bool((evaluation.get("test") or {}).get("intervals")),
        before=_cell(" ".join(run.added_by_tokenizer("before"))),
        num_after=len(run.added_by_tokenizer("after")),
        remarks=[] if run.withheld else [_cell(remark) for remark in evaluation.get("warnings") or ()],
        withheld=_cell(run.withheld),
        left_out=evaluation.get("left_out") or {},
        baselines=[
            {name: _cell(row[name]) for name in ("name", "value", "difference", "what")} for row in run.baselines
        ],
        benchmarks=[
            {
                "task": _cell(score.task),
                "metric": _cell(score.metric),
                "value": formats.with_error(score.value, score.standard_error),
                "chance": "" if score.chance is None else formats.real(score.chance),
                "documents": score.documents,
            }
            for score in run.benchmarks[:MAX_SOURCES]
        ],
        limitations=_limitations(run),
    )
    return page.strip() + "\n"


def front_matter(run: RunData) -> dict[str, Any]:
    """Metadata for the Hub: https://huggingface.co/docs/hub/model-cards, evaluation results as a `model-index`."""
    matter: dict[str, Any] = {}
    if run.config.language:
        matter["language"] = list(run.config.language)
    if run.config.license:
        matter["license"] = run.config.license
    config = run.section("model")
    if config.get("pretrained"):
        matter["base_model"] = base_name(config["pretrained"], config.get("revision"))
    matter["library_name"] = "peft" if run.usage.has_adapter else "transformers"
    matter["pipeline_tag"] = run.words.hub_task[0]
    tags = [run.words.hub_tag, run.model_config.get("model_type"), "descent"]
    matter["tags"] = [tag for tag in tags if tag]
    test = run.summary("evaluate").get("test") or {}
    metrics = [
        {"type": hub[0], "value": float(f"{test[figure.key]:.6g}"), "name": hub[1]}
        for figure in run.words.figures
        if (kind := METRIC_OF_KEY.get(figure.key)) and (hub := kind.hub) and test.get(figure.key) is not None
    ]
    if metrics:
        documents = f"Held-out documents of {', '.join(run.sources_of('test')) or 'the training sources'}"
        dataset = {"name": documents, "type": "custom", "split": "test"}
        task = dict(zip(("type", "name"), run.words.hub_task, strict=True))
        results = [{"task": task, "dataset": dataset, "metrics": metrics}]
        matter["model-index"] = [{"name": run.title, "results": results}]
    return matter


def _with_split(run: RunData, name: str) -> str:
    split = run.split_of_source.get(name)
    return name if split is None else f"{name} (all {split})"


def _origin(config: dict[str, Any]) -> str:
    if config.get("pretrained"):
        commit = f" at commit {config['revision']}" if config.get("revision") else ""
        name = base_name(config["pretrained"], config.get("revision"))
        return f"It was fine-tuned from {_cell(name)}{commit}."
    return "It was trained from random weights." if config.get("architecture") else ""


def _figures(run: RunData, figures: dict[str, Any], columns: Sequence[Figure]) -> list[str]:
    """Each figure with its interval in brackets; "" for what was not measured."""
    cells = []
    for column in columns:
        value, between = figures.get(column.key), run.interval(column, figures)
        cells.append(
            "" if value is None else formats.written(value, column.style) + (f" ({between})" if between else "")
        )
    return cells


def _prompt(run: RunData) -> str:
    """The first prompt of the run's own samples that fits on a line; of models that write nothing, a text."""
    if not run.words.is_generative:
        return "The text to judge."
    prompts = (str(sample.get("prompt", "")) for sample in run.summary("evaluate").get("samples") or [])
    return next((prompt for prompt in prompts if 0 < len(prompt) <= 60 and "\n" not in prompt), "Once upon a time")


def _cut(run: RunData) -> str:
    """How the tokenizer is told to cut a text as training did; "" of models that go on from all of it."""
    block = run.section("pack").get("block_size")
    return "" if run.words.is_generative or not block else f", truncation=True, max_length={block}"


def _data_words(run: RunData) -> str:
    sentences = []
    if run.sources:
        sentences.append("Counts are documents and UTF-8 text after cleaning and filtering, over all splits.")
    splits = run.summary("curate").get("splits") or {}
    named = [f"{name} {formats.count(of['documents'])}" for name, of in splits.items() if "documents" in of]
    if named:
        sentences.append(f"Documents by split: {', '.join(named)}.")
    for split, found in (run.summary("curate").get("leakage") or {}).items():
        sentences.append(
            f"Of {formats.count(found['compared'])} {split} documents that were compared, "
            f"{formats.count(found['overlapping'])} have half of their runs of eight words or more in common with "
            "training documents."
        )
    if names := list(run.summary("curate").get("benchmarks") or {}):
        sentences.append(f"Documents that hold pieces of these benchmarks were dropped: {', '.join(names)}.")
    augment = run.summary("augment")
    before, after = augment.get("documents_in"), augment.get("documents_out")
    if isinstance(before, int) and isinstance(after, int) and before != after:
        sentences.append(
            f"Weights of sources and augmentation turned {formats.count(before)} training documents into "
            f"{formats.count(after)}; validation and test documents were left alone."
        )
    tokens = (run.splits("encode").get("train") or {}).get("tokens")
    if tokens:
        sentences.append(f"The training split has {formats.count(tokens)} tokens.")
    return " ".join(sentences) or "Not recorded."


def _training(run: RunData) -> list[tuple[str, str]]:
    summary, config = run.summary("train"), run.section("train")
    rows = []
    if run.num_parameters:
        rows.append(("parameters", formats.count(run.num_parameters)))
    if run.shape:
        rows.append(("shape", ", ".join(run.shape)))
    if run.section("pack").get("block_size"):
        rows.append(("block_size", formats.count(run.section("pack")["block_size"])))
    for key, name in (("steps", "steps"), ("target_tokens", f"{run.words.target}s")):
        if summary.get(key) is not None:
            rows.append((name, formats.count(summary[key])))
    if summary.get("epochs") is not None:
        rows.append(("epochs", f"{summary['epochs']:.4g}"))
    if run.mixture:
        rows.append(("mixture", ", ".join(f"{one['name']} {one['share']:.1%}" for one in run.mixture)))
    if run.early_end:
        rows.append(("end", run.early_end))
    rows += [
        (key, str(config[key])) for key in _TRAIN_SETTINGS if config.get(key) is not None and _applies(key, config)
    ]
    seed = run.manifests.get("train", {}).get("seed")
    if seed is not None:
        rows.append(("seed", str(seed)))
    return [(name, _cell(value)) for name, value in rows]


def _applies(key: str, config: dict[str, Any]) -> bool:
    if key == "momentum":
        return bool(config.get("optim") == "sgd")
    return not key.startswith("adam_") or str(config.get("optim", "")).startswith("adam")


def _limitations(run: RunData) -> list[str]:
    tokens = run.summary("train").get("target_tokens")
    block = run.section("pack").get("block_size")
    words, own = run.words, run.own_figure
    limits = [
        words.limitation,
        "It knows only its training data (above) and repeats its errors"
        + (", its prejudices and at times its very words." if words.is_generative else " and its prejudices."),
    ]
    if run.lost_text:
        limits.append(f"It does not see all of a text: {run.lost_text}.")
    if tokens and tokens < _SMALL_TOKENS and words.is_generative:
        limits.append(
            f"It saw {formats.compact(tokens)} target tokens, which is very little: expect broken text outside that "
            "data's style."
        )
    if block:
        limits.append(
            f"It was trained on sequences of {formats.count(block)} tokens and is unlikely to use more context well."
            if words.is_generative
            else f"It was trained on documents that were cut after {formats.count(block)} tokens; cut longer ones too."
        )
    tested = run.sources_of("test")
    where = "the same sources" if tested == run.sources_of("train") else ", ".join(tested)
    limits.append(f"Its evaluation uses held-out documents of {where}; it says nothing about other text or tasks.")
    worse, even = (
        " and ".join(
            f"{row['name']} ({row['value']})" for row in run.baselines if _standing(row, own, words) == standing
        )
        for standing in ("worse", "even")
    )
    if worse and words.is_generative:
        limits.append(f"On that text it needs more bits per byte than {worse}.")
    elif worse:
        limits.append(f"On those documents it is no better than {worse}.")
    if even:
        limits.append(f"What sets it apart from {even} lies within the noise of these documents.")
    return [_cell(limit) for limit in limits]


def _standing(baseline: dict[str, Any], own: float | None, words: TaskWords) -> str:
    """Whether the model is `better` or `worse` than a baseline, or `even`: the difference lies within its interval."""
    if baseline["difference"]:
        return {True: "better", False: "worse", None: "even"}[baseline["better"]]
    if own is None:
        return ""
    is_worse = own > baseline["figure"] if words.better == "lower" else own <= baseline["figure"]
    return "worse" if is_worse else "better"


def _cell(value: str) -> str:
    """Text that stays in its table cell or line and starts no markup."""
    plain = " ".join(str(value).split())
    return "".join(f"\\{letter}" if letter in "|<>`*[]\\" else letter for letter in plain)
