"""What every task promises to those that ask it, whichever it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.evaluation.evaluate_config import EvaluateConfig
from pipeline.evaluation.losses import Batch
from pipeline.tasks import TASKS, Task, main_metric, task_named, task_packed_by
from pipeline.tasks.base_labelled import Labelled
from pipeline.tasks.causal_lm import CausalLm
from pipeline.tasks.classification import Classification
from pipeline.tokens.packing import PackConfig
from pipeline.training.train_config import TrainConfig

VOCABULARY = 11
OUTPUTS = {"tokens": VOCABULARY, "classes": 3, "numbers": 1}
TRAIN = TrainConfig(max_steps=1)


@pytest.fixture(params=[kind.model_fields["type"].default for kind in TASKS])
def task(request: pytest.FixtureRequest) -> Task:
    return task_named(request.param)


def batch_of(task: Task) -> tuple[torch.Tensor, Batch, int]:
    """Logits and a batch of four rows, of which the last is no target, and how many targets there are."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, VOCABULARY, (4, 6), generator=draw)
    batch = task.example_batch(ids)
    if task.predicts == "classes":
        batch["labels"] %= OUTPUTS["classes"]
    batch["labels"] = batch["labels"].clone()
    batch["labels"][-1] = torch.nan if batch["labels"].is_floating_point() else -100
    shape = (*batch["labels"].shape, OUTPUTS[task.predicts])
    return torch.randn(shape, generator=draw), batch, batch["labels"][:-1].numel()


def test_validation_has_the_mean_of_what_training_makes_small(task: Task) -> None:
    logits, batch, targets = batch_of(task)
    trained = task.loss_sums(SimpleNamespace(logits=logits), batch, TRAIN)
    means = task.validation_means(task.validation_sums(logits, batch, TRAIN))
    assert means["loss"] == pytest.approx(float(trained.parts["loss"]) / targets, rel=1e-6)
    assert trained.total == trained.parts["loss"]


def test_rows_add_up_and_those_without_a_target_count_nothing(task: Task) -> None:
    logits, batch, _ = batch_of(task)

    def of(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        part = {name: tensor[rows] for name, tensor in batch.items()}
        total = task.loss_sums(SimpleNamespace(logits=logits[rows]), part, TRAIN).total
        return total, task.validation_sums(logits[rows], part, TRAIN)

    whole, parts = of(slice(None)), [of(slice(row, row + 1)) for row in range(4)]
    torch.testing.assert_close(torch.stack([total for total, _ in parts]).sum(), whole[0])
    torch.testing.assert_close(torch.stack([sums for _, sums in parts]).sum(0), whole[1])
    assert float(parts[-1][0]) == 0
    assert not parts[-1][1].any()


def test_a_row_without_a_target_gives_no_gradient_even_where_it_is_not_finite(task: Task) -> None:
    logits, batch, _ = batch_of(task)
    logits.requires_grad_()
    task.loss_sums(SimpleNamespace(logits=logits), batch, TRAIN).total.backward()
    assert logits.grad is not None
    assert not logits.grad[-1].any()
    assert logits.grad[:-1].any()


def test_the_weights_of_the_tokens_of_one_target_add_up_to_one(task: Task) -> None:
    _, batch, targets = batch_of(task)
    weights = task.token_weights(batch)
    assert weights.shape == batch["input_ids"].shape
    assert float(weights.sum()) == pytest.approx(targets)
    assert not weights[-1].any()


@pytest.mark.parametrize(
    ("metrics", "called"),
    [
        ([{"type": "evaluate", "path": "f1", "arguments": {"average": name}} for name in ("micro", "macro")], "f1"),
        ([{"type": "evaluate", "path": "./mine/accuracy.py"}], "accuracy"),
        ([{"type": "evaluate", "path": "./mine.py", "figure_name": "loss"}], "loss"),
    ],
)
def test_two_figures_of_one_name_are_refused(metrics: list[Any], called: str) -> None:
    def check(metrics: list[Any]) -> None:
        config = SimpleNamespace(pack=PackConfig(strategy="classification"), train=None, ingest=None)
        config.evaluate = EvaluateConfig(metrics=metrics)
        Classification().check(config)

    check(["accuracy", {"type": "accuracy"}, "f1_macro", *metrics[:-1]])
    with pytest.raises(ValueError, match=f"evaluate.metrics: two figures are called {called}; remove one"):
        check(metrics)


@pytest.mark.parametrize("samples", [{"prompts": ["Once"]}, {"num_samples": 0}])
def test_metrics_of_what_a_model_writes_need_documents_to_go_on_from(samples: dict[str, Any]) -> None:
    def check(**values: Any) -> None:
        config = SimpleNamespace(pack=PackConfig(strategy="contiguous"), train=None, ingest=None)
        config.evaluate = EvaluateConfig(metrics=[{"type": "evaluate", "path": "rouge"}], **values)
        CausalLm().check(config)

    check()
    with pytest.raises(ValueError, match=r"rouge compares what .* leave evaluate\.samples\.prompts empty"):
        check(samples=samples)


def test_a_mixture_needs_a_task_that_tells_whose_rows_are_whose(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = PackConfig(strategy=task.strategy, mixture={"weights": {"a": 1}})
    sources = [SimpleNamespace(name="a", split=None, label_field="l")]
    config = SimpleNamespace(pack=pack, train=None, ingest=SimpleNamespace(sources=sources), evaluate=EvaluateConfig())
    task.check(config)
    for kind in (CausalLm, Labelled):
        monkeypatch.setattr(kind, "first_windows", Task.first_windows)
    with pytest.raises(ValueError, match=rf"pack\.mixture: {task.type} has no first_windows, .*; remove it"):
        task.check(config)


def test_its_names_lead_back_to_it(task: Task) -> None:
    assert task_packed_by(task.strategy) == task
    words = task.words_for({})
    assert main_metric({"task": task.type}) == task.metrics[0].key == words.main.key
    assert {metric.key for metric in task.metrics} <= {figure.key for figure in words.figures}
    assert all(task.predicts in metric.measures for metric in task.metrics)


def test_a_model_that_guesses_has_the_loss_of_guessing(task: Task) -> None:
    ids = torch.arange(8).view(2, 4)
    shape: tuple[Any, ...] = (2, 4, VOCABULARY) if task.predicts == "tokens" else (2, OUTPUTS[task.predicts])
    loss, guessing = task.start_loss(torch.zeros(shape), ids)
    assert float(loss) == pytest.approx(1.0 if guessing is None else guessing)
