"""What a model learns: the contract that every task keeps, and all that the rest of the pipeline asks of it.

Data pass through a task so. `encode` has written one stream of token ids a split, with the ends of documents and their
labels beside it. `pack` makes rows of it: it writes `<split>/pack.json` and what else a row needs. `open_split` reads
them: `batch(indices)` collates rows to `input_ids`, `labels` and what else the model is given. `loss_sums` is the only
reader of `labels`, and with `token_weights` and `validation_sums` the only one that knows their shape.

Chat needs no more of this contract. A row holds one or several conversations: `pack` writes their bounds, from which
`batch` makes `position_ids` that start anew, so that attention stays within one. Its loss mask becomes labels of -100
where nothing is learned, as a padded window has them; `num_targets` counts the others from prefix sums of the mask,
without reading tokens, and the cross-entropy below holds as it is. Only encode does not ask a task yet: the ids of a
conversation and the mask beside them have to be written there.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pipeline.evaluation.metrics import Figure, Metric
from pipeline.features import Feature
from pipeline.section import Section
from pipeline.tasks.task_words import TaskWords

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedConfig

    from pipeline.config import Config
    from pipeline.evaluation.evaluate_config import EvaluateConfig
    from pipeline.evaluation.loss_by_hand import LossByHand
    from pipeline.evaluation.losses import Batch, LossSums
    from pipeline.evaluation.trained_model import TrainedModel
    from pipeline.modeling.heads import Head
    from pipeline.progress import Progress
    from pipeline.training.train_config import TrainConfig

LOSS_SETTINGS = {
    ("regression_loss", "huber_delta"): "are for model.task regression, not {task}",
    ("label_smoothing_factor", "z_loss_coef"): "are for classes, not for {task}",
}
"""Settings of `train` that not every loss has, and what is said of them where they do not belong."""

COUNTS = ("tokens", "bytes", "documents")
"""Figures of an evaluation that say how much was measured."""


class Split(Protocol):
    """The rows of a split, by index, and how many targets some of them have, found without reading tokens."""

    @property
    def block_size(self) -> int: ...
    @property
    def target_tokens(self) -> int: ...
    def __len__(self) -> int: ...
    def batch(self, indices: Iterable[int]) -> dict[str, Any]: ...
    def num_targets(self, indices: Iterable[int]) -> int: ...
    def num_tokens_in(self, indices: Iterable[int]) -> int: ...


class TaskContext(Protocol):
    """The part of StageContext that a task uses: settings, input folders, output folder, seed, workers, progress."""

    @property
    def config(self) -> Section: ...
    @property
    def inputs(self) -> Mapping[str, Path]: ...
    @property
    def output(self) -> Path: ...
    @property
    def seed(self) -> int: ...
    @property
    def num_workers(self) -> int: ...
    @property
    def progress(self) -> Progress: ...


class Task(Feature):
    """Says what is learned, from the rows to the words of the report."""

    words: ClassVar[TaskWords]
    """How report and card speak of it."""

    predicts: ClassVar[str]
    """What the model predicts: `tokens`, `classes` or `numbers`. Compared with `Metric.measures`."""

    metrics: ClassVar[tuple[Metric, ...]]
    """The metrics by default. The first is always measured: by it a model is judged and compared with baselines."""

    auto_class: ClassVar[str]
    """The class of transformers that loads such a model."""

    loss_settings: ClassVar[tuple[str, ...]] = ("label_smoothing_factor", "z_loss_coef")
    """Which of LOSS_SETTINGS this loss has."""

    @property
    def strategy(self) -> str:
        """How pack makes rows, as `pack.strategy` names it. An artifact of pack tells its task by it."""
        return self.type

    @property
    def is_pretrained_whole(self) -> bool:
        """Whether a pretrained language model has all weights that the task needs, its head included."""
        return self.auto_class == "AutoModelForCausalLM"

    def check(self, config: Config) -> None:
        """Raises ValueError in words where sources, train or evaluate do not fit. Sections may be None."""
        if config.pack.strategy != self.strategy:
            raise ValueError(
                f"pack.strategy {config.pack.strategy} does not fit model.task {self.type}; remove it, or set "
                f"{self.strategy}"
            )
        if config.pack.mixture is not None and type(self).first_windows is Task.first_windows:
            raise ValueError(
                f"pack.mixture: {self.type} has no first_windows, which say whose rows are whose; remove it"
            )
        if unknown := [one.key for one in config.evaluate.metrics or () if self.predicts not in one.measures]:
            known = ", ".join(metric.key for metric in self.metrics)
            raise ValueError(f"evaluate.metrics: {unknown[0]} is not measured in {self.type}; choose from {known}")
        of_key: dict[str, Metric | None] = {metric.key: metric for metric in self.metrics} | dict.fromkeys(
            ("loss", *COUNTS)
        )
        for metric in config.evaluate.metrics or ():
            if of_key.setdefault(metric.key, metric) != metric:
                raise ValueError(f"evaluate.metrics: two figures are called {metric.key}; remove one")
        for section, found in (("evaluate", config.evaluate), ("train", config.train)):
            if getattr(found, "benchmarks", None) and self.predicts != "tokens":
                raise ValueError(f"{section}.benchmarks are for language models, not for {self.type}; remove them")
        for names, words in LOSS_SETTINGS.items() if config.train is not None else ():
            fields = type(config.train).model_fields
            given = any(getattr(config.train, name) != fields[name].default for name in names)
            if given and not set(names) <= set(self.loss_settings):
                raise ValueError(f"train.{' and '.join(names)} {words.format(task=self.type)}; remove it")

    def uses_seed(self, config: EvaluateConfig) -> bool:
        """Whether its evaluation draws random numbers under these settings."""
        return False

    def head(self, pack_folder: Path | None = None) -> Head:
        """What the model ends in: here scores of the vocabulary. `pack_folder` has the classes; None before they are
        known."""
        from pipeline.modeling.heads import CAUSAL_LM

        return CAUSAL_LM

    @abstractmethod
    def pack(self, context: TaskContext) -> dict[str, Any]:
        """Write the rows of every split over the streams of encode; gives the stage's summary.

        `<split>/pack.json` has `strategy` and the digest of the stream; the stage's settings are a `PackConfig`.
        """

    def first_windows(self, folder: Path, sources: Sequence[Mapping[str, Any]]) -> list[int]:
        """The first row of each source of a split that was packed into `folder`, for a mixture. encode.json describes
        the `sources`."""
        raise NotImplementedError

    @abstractmethod
    def open_split(self, pack_folder: Path, encode: Path, split: str) -> Split:
        """The rows of a split, from the artifact of pack and that of encode."""

    def example_batch(self, ids: torch.Tensor) -> Batch:
        """A batch of the given ids (B, T) with made-up labels, for an estimate: here a target for each token."""
        return {"input_ids": ids, "labels": ids}

    def start_loss(self, logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, float | None]:
        """The mean loss of random ids (B, T), by which a fresh model is judged, and that of guessing, or None: here of
        predicting the next id."""
        from torch.nn import functional

        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        return loss, math.log(logits.shape[-1])

    def guess_loss(self, model_config: PreTrainedConfig) -> float | None:
        """What a uniform guess costs, in the loss of training; None where there is no such guess."""
        return None

    def ignorant_loss(self, model_config: PreTrainedConfig, validation: Any, config: TrainConfig) -> float | None:
        """What a model that knows nothing costs on the validation split, in the loss of training: a uniform guess."""
        return self.guess_loss(model_config)

    def frequency_loss(self, train: Any, validation: Any, config: TrainConfig) -> float | None:
        """What a guess by the targets of the training split alone costs on the validation split, in the loss of
        training: by how often each stands there."""
        return None

    def loss_sums(self, output: Any, batch: Batch, config: TrainConfig) -> LossSums:
        """Losses of a batch, as sums over its targets: the one to minimize and those to record.

        Here the cross-entropy in nats; a label of -100 is no target.
        """
        from pipeline.evaluation.losses import cross_entropy_sums

        smoothing, coefficient = config.label_smoothing_factor, config.z_loss_coef
        return cross_entropy_sums(output.logits, batch["labels"], label_smoothing=smoothing, z_loss_coef=coefficient)

    def loss_by_hand(self, outputs: NDArray[Any], labels: NDArray[Any], config: TrainConfig) -> LossByHand:
        """The same by its formula, with the gradient, from the outputs in float64: for people to follow."""
        from pipeline.evaluation.loss_by_hand import cross_entropy_by_hand

        smoothing, coefficient = config.label_smoothing_factor, config.z_loss_coef
        return cross_entropy_by_hand(outputs, labels, label_smoothing=smoothing, z_loss_coef=coefficient)

    def target_losses(self, logits: torch.Tensor, batch: Batch, config: TrainConfig) -> torch.Tensor:
        """The plain loss of each target, of the shape of `labels`: here the cross-entropy in nats, 0 for no target."""
        from pipeline.evaluation.losses import token_losses

        return token_losses(logits, batch["labels"])[0]

    def token_weights(self, batch: Batch) -> torch.Tensor:
        """Weight of each token in the router losses, (B, T). The weights of the tokens of one target add up to 1: here
        each target is a token."""
        from pipeline.tokens.packed_split import IGNORED_LABEL

        return batch["labels"] != IGNORED_LABEL

    def validation_sums(self, logits: torch.Tensor, batch: Batch, config: TrainConfig) -> torch.Tensor:
        """What a validation adds up over batches and processes, (n,) float64: here loss, targets, hits, and
        how losses differ from row to row."""
        from pipeline.evaluation.losses import token_sums

        return token_sums(logits, batch["labels"])

    @abstractmethod
    def validation_means(self, sums: torch.Tensor) -> dict[str, float]:
        """The figures of a validation from its sums: `loss`, of which less is better, its standard error `loss_error`,
        and others."""

    @abstractmethod
    def predict(self, context: TaskContext, trained: TrainedModel) -> Any:
        """Run a trained model on the test split, for `evaluate`. The settings are an `EvaluateConfig`.

        All processes of the launch call it. They share out the work by `trained.processes`, and each gets all of it.
        """

    def predict_before(self, context: TaskContext, load: Callable[[], TrainedModel]) -> Any:
        """What the model told before its training, as a baseline; None where it tells nothing. As for `predict`; `load`
        loads the model."""
        return None

    @abstractmethod
    def evaluate(self, context: TaskContext, predicted: Any, before: Any) -> dict[str, Any]:
        """The evaluation of a trained model on the test split, as JSON values, from what `predict` and
        `predict_before` gave.

        It has `task`, `test`, `sources`, `baselines` and `samples`, and may write files beside `evaluation.json`.
        Process 0 alone calls it.
        """

    def chosen_metrics(self, config: EvaluateConfig) -> list[Any]:
        """The metrics to measure, each once: the first of the task's own, and those asked for."""
        chosen = {metric.key: metric for metric in (self.metrics[0], *(config.metrics or self.metrics))}
        return [*chosen.values()]

    def figures_of_others(self, metrics: Iterable[Metric]) -> dict[str, Any]:
        """How metrics that are not the task's own are shown: `figures` of an evaluation, or nothing."""
        own = {figure.key for figure in self.words.figures}
        others = [asdict(metric.figure) for metric in metrics if metric.key not in own]
        return {"figures": others} if others else {}

    def words_for(self, evaluation: Mapping[str, Any]) -> TaskWords:
        """How report and card speak of one evaluation, or of none (an empty one)."""
        others = [Figure(**one) for one in evaluation.get("figures") or ()]
        return replace(self.words, figures=(*self.words.figures, *others))
