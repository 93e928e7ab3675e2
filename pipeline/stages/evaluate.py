"""evaluate: measure the trained model on the held-out test documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import atomic
from pipeline.engine.stage import Stage, StageContext
from pipeline.evaluation.benchmarks import Exported, Scores
from pipeline.evaluation.evaluate_config import EvaluateConfig
from pipeline.tasks import Task, main_metric, task_named, task_of_split
from pipeline.telemetry.result_verdicts import judge_result
from pipeline.telemetry.verdicts import Verdict, verdicts_of

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.evaluation.trained_model import TrainedModel


def run(context: StageContext[EvaluateConfig]) -> dict[str, Any]:
    """Write `evaluation.json`: scores of the test split and of each source in it, baselines, samples, and verdicts
    (`health`); and what else the task writes, such as predictions.

    Processes share out what the model computes; process 0 alone scores it and writes.
    """
    from pipeline.distributed.collectives import joined
    from pipeline.evaluation.trained_model import TrainedModel, load_trained, pick_device

    task, device = task_of_split(context.inputs["pack"], "test"), pick_device()
    with joined("evaluate", device) as processes:

        def load(stage: str) -> TrainedModel:
            model = load_trained(context.inputs[stage] / "model", device, processes.dims)
            return TrainedModel(model, device, processes)

        predicted, benchmarks = _measure(task, context, load("train"))
        before = task.predict_before(context, lambda: load("model"))  # the trained one is gone by now
    if not processes.is_main:
        return {}
    evaluation = task.evaluate(context, predicted, before)
    if context.config.benchmarks:
        evaluation["benchmarks"] = [asdict(score) for found in benchmarks for score in found.scores]
        remarks = [text for found in benchmarks for text in found.warnings]
        evaluation["warnings"] = [*evaluation.get("warnings", ()), *remarks]
    verdicts = _verdicts(evaluation, context.inputs["train"])
    for verdict in verdicts:
        if not verdict.is_healthy:
            context.progress.say(f"health: {verdict.in_words}; {verdict.remedy}")
    evaluation["health"] = [verdict.as_json() for verdict in verdicts]
    atomic.write_json(context.output / "evaluation.json", evaluation)
    return evaluation


def _verdicts(evaluation: Mapping[str, Any], train: Path) -> list[Verdict]:
    """What is said of a result, by the training whose artifact lies in `train`."""
    from pipeline.engine.manifests import read_manifest

    summary = (read_manifest(train) or {"summary": {}})["summary"]
    return judge_result(evaluation, verdicts_of(summary.get("health")), summary.get("last_fall"))


def _measure(task: Task, context: StageContext[EvaluateConfig], trained: TrainedModel) -> tuple[Any, list[Scores]]:
    """What the task predicts, and the scores of each benchmark."""
    from pipeline.evaluation.trained_model import longest_input_of

    predicted = task.predict(context, trained)
    if not context.config.benchmarks:
        return predicted, []
    folder = context.inputs["train"] / "model"
    longest = longest_input_of(trained.model, folder)
    exported = Exported(trained, folder, longest, context.config.per_device_eval_batch_size)
    return predicted, [benchmark.scores(exported, context.progress) for benchmark in context.config.benchmarks]


def main_result(evaluation: Mapping[str, Any]) -> str:
    """The figure by which a run is judged, on the held-out documents, with its 95 % interval, from the summary of its
    evaluation."""
    metric, test = main_metric(evaluation), evaluation["test"]
    low, high = (test.get("intervals") or {}).get(metric) or (None, None)
    between = "" if low is None else f" ({low:.3f} to {high:.3f})"
    remark = " (no bits per byte: its tokenizer loses text)" if evaluation.get("withheld") else ""
    if test[metric] is None:
        return f"{metric.replace('_', ' ')} beyond all numbers{remark}"
    return f"{test[metric]:.3f} {metric.replace('_', ' ')}{between}{remark}"


def _check(config: Config) -> None:
    for benchmark in config.evaluate.benchmarks:
        benchmark.check()


def _uses_seed(config: Config) -> bool:
    return task_named(config.model.task).uses_seed(config.evaluate)


STAGE = Stage(
    name="evaluate",
    version=6,
    config=EvaluateConfig,
    run=run,
    inputs=("train", "model", "pack/train", "pack/test", "curate/train", "curate/test"),
    reads=("encode",),
    uses_seed=_uses_seed,
    check=_check,
    distributed=True,
    headline=main_result,
    noun="evaluation",
    summary_keys_in_run_json=("health",),
)
