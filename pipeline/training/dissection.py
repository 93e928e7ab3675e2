"""The anatomy of a step, measured: one batch through a copy of the model and back, and an update of the copy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from pipeline.distributed.collectives import ALONE
from pipeline.evaluation.loss_by_hand import LossByHand, TargetLoss
from pipeline.evaluation.losses import Batch
from pipeline.modeling.heads import has_head_over_labels
from pipeline.modeling.inputs import evaluating, model_inputs
from pipeline.modeling.layer_names import matrix_name
from pipeline.modeling.module_hooks import ModulePass, record_modules
from pipeline.modeling.network_parts import NetworkPart, network_parts
from pipeline.tasks import Split, Task
from pipeline.telemetry import anatomy as record
from pipeline.telemetry.anatomy import Anatomy, Clip, Difference, Example, Loss, OptimizerStep, Passed, Station, Token
from pipeline.telemetry.finite_differences import central_differences
from pipeline.telemetry.model_probe import ModelProbe, tokens_of
from pipeline.telemetry.probe_figures import ATTENTION, PROBE, figure_by_module
from pipeline.training.between_parts import InBetween, Values, between_parts, rms_of
from pipeline.training.followed_entries import Entry, choose_entries, foresee, with_outcome
from pipeline.training.logit_lens import read_early
from pipeline.training.optimization.clipping import Clipping
from pipeline.training.optimization.parameter_groups import set_learning_rate
from pipeline.training.routing import Routing
from pipeline.training.train_config import TrainConfig

CONTEXT_TOKENS = 12
SHOWN_TOKENS = 24


@dataclass(frozen=True)
class NextRate:
    """A learning rate and the step of the training that has it; `is_last` where no step comes after that."""

    value: float
    step: int
    is_last: bool


@dataclass(frozen=True)
class Subject:
    """What is taken apart. The model is used up: it is updated, and ends in float64."""

    config: TrainConfig
    task: Task
    model: PreTrainedModel
    """In float32, with the weights after `step` steps."""
    step: int
    batch: Batch
    decode: Callable[[list[int]], str]
    """The text of tokens."""
    optimizer: torch.optim.Optimizer | None
    """Over the model's parameters, as it was after `step` steps. None where that is not known."""
    rate: NextRate | None


@dataclass(frozen=True)
class _OneBatch:
    """A batch in the place of a split, as far as a probe reads one."""

    rows: dict[str, np.ndarray]

    def batch(self, indices: Iterable[int]) -> dict[str, Any]:
        return {name: values[[*indices]] for name, values in self.rows.items()}

    def num_targets(self, indices: Iterable[int]) -> int:
        return len([*indices])


class _Objective:
    """What training makes small, as a mean over the targets of a batch. Keeps the last pass's outputs and the gradient
    with respect to them."""

    def __init__(self, subject: Subject) -> None:
        self.batch = dict(subject.batch)
        self.num_targets = max(1.0, float(subject.task.token_weights(self.batch).sum()))
        self.outputs = self.gradient = torch.zeros(())
        self.router: float | None = None
        self._subject = subject
        self._routing = Routing(subject.config, subject.task, subject.model)

    def __call__(self) -> torch.Tensor:
        subject = self._subject
        output = subject.model(**model_inputs(self.batch), **self._routing.inputs)
        plain = subject.task.loss_sums(output, self.batch, subject.config)
        whole = self._routing.add(plain, output, self.batch)
        self.outputs = output.logits.detach()
        self.router = None if whole is plain else float((whole.total - plain.total).detach()) / self.num_targets
        if output.logits.requires_grad:
            output.logits.register_hook(self._keep)
        return whole.total / self.num_targets

    def _keep(self, gradient: torch.Tensor) -> None:
        self.gradient = gradient.detach()


def dissect(subject: Subject) -> Anatomy:
    """The anatomy of a step. Draws no random numbers. Raises ValueError where the loss or its gradient is not finite.

    The passes are in float32 and without dropout, whatever the training does: so formulas hold to the last digits.
    """
    with _one_thread():
        return _dissect(subject)


def _dissect(subject: Subject) -> Anatomy:
    model = subject.model
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    parts = network_parts(model)
    objective = _Objective(subject)
    modules = {name: part.module for name, part in parts.items()}
    tokens = tokens_of(subject.batch)
    with between_parts(parts, tokens) as between:
        found = record_modules(model, modules, objective, [parameter for _, parameter in trained], tokens=tokens)
    gradients = {
        name: gradient
        for (name, _), gradient in zip(trained, found.parameter_gradients, strict=True)
        if gradient is not None
    }
    norm = math.sqrt(sum(float(torch.linalg.vector_norm(one, dtype=torch.float64)) ** 2 for one in gradients.values()))
    total = float(found.loss)
    if not (math.isfinite(total) and math.isfinite(norm)):
        raise ValueError("the loss of the batch or its gradient is not finite")

    stations = _stations(parts, found, between, _look_inside(subject), _losses_on_the_way(subject, parts))
    by_hand = subject.task.loss_by_hand(
        objective.outputs.double().cpu().numpy(), subject.batch["labels"].cpu().numpy(), subject.config
    )
    loss = _loss(subject, objective, by_hand, total)
    entries = choose_entries(dict(trained), gradients)
    weights = {name: parameter.detach().clone() for name, parameter in trained}
    update = None if subject.optimizer is None else _update(subject, objective, entries, gradients, weights, norm)
    for name, parameter in trained:
        parameter.data = weights[name]
    differences, why_none = _differences(subject, objective, entries)
    return Anatomy(
        format=record.FORMAT,
        step=subject.step,
        task=subject.task.type,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_trainable=sum(parameter.numel() for _, parameter in trained),
        batch=_batch(subject, by_hand),
        stations=stations,
        loss=loss,
        differences=differences,
        no_differences=why_none,
        update=update,
        no_update="" if update else "the optimizer's state at this step is not kept",
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread of the processor: a small batch is no work for several, which mostly wait for each other,
    and the order of sums is the same on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batch(subject: Subject, by_hand: LossByHand) -> record.ShownBatch:
    ids = subject.batch["input_ids"]
    first = ids[0].tolist()[:SHOWN_TOKENS]
    tokens = [Token(one, subject.decode([one])) for one in first]
    return record.ShownBatch(rows=ids.shape[0], length=ids.shape[1], targets=by_hand.num_targets, tokens=tokens)


def _look_inside(subject: Subject) -> dict[str, float]:
    """What the probe of trainings sees of the batch, by tag: attention and hidden units."""
    task, config, batch = subject.task, subject.config, subject.batch
    rows = {name: values.cpu().numpy() for name, values in batch.items()}
    probe = ModelProbe(
        subject.model,
        cast(Split, _OneBatch(rows)),
        range(len(rows["input_ids"])),
        lambda output, part: task.loss_sums(output, part, config),
        ALONE,
        subject.model.device,
        len(rows["input_ids"]),
        backward=False,
    )
    return probe.tags(probe.measure().tolist())


def _losses_on_the_way(subject: Subject, parts: Mapping[str, NetworkPart]) -> dict[str, float]:
    """The loss by its formula, read after the embedding and after each block; of none where the model cannot be read
    so."""
    model, task, batch = subject.model, subject.task, subject.batch
    blocks = {name: part.module for name, part in parts.items() if part.kind == "block"}
    embeddings = [name for name, part in parts.items() if part.kind == "embedding"]
    labels = batch["labels"].cpu().numpy()
    try:
        read = read_early(model, [*blocks.values()], lambda: model(**model_inputs(batch)).logits)
    except (ValueError, TypeError, RuntimeError):
        return {}
    losses = [task.loss_by_hand(one.double().cpu().numpy(), labels, subject.config).loss for one in read]
    return dict(zip([*embeddings[-1:], *blocks], losses[0 if embeddings else 1 :], strict=True))


def _stations(
    parts: Mapping[str, NetworkPart],
    found: ModulePass,
    between: InBetween,
    inside: Mapping[str, float],
    losses: Mapping[str, float],
) -> list[Station]:
    """In the order of the forward pass; a block after its parts."""
    entropies = figure_by_module(inside, ATTENTION, "entropy_mean")
    dead = figure_by_module(inside, PROBE, "dead_units")
    stations = []
    for name, figures in found.modules.items():
        gradient = None if figures.gradient_norm is None else _finite(float(figures.gradient_norm))
        kind, block = parts[name].kind, parts[name].block
        given, normed = between.given.get(name), between.normed.get(name)
        arriving = None if given is None else given.gradient_norm
        stations.append(
            Station(
                name=name,
                kind=kind,
                shape=list(figures.shape),
                rms=_finite(float(figures.rms)),
                largest=_finite(float(figures.largest)),
                gradient_norm=gradient,
                factor=_finite(arriving / gradient) if gradient and arriving is not None else None,
                dead_share=next((share for unit, share in dead.items() if unit.startswith(f"{name}.")), None)
                if kind == "mlp"
                else None,
                entropy=entropies.get(block) if kind == "attention" else None,
                loss_here=_finite(losses[name]) if name in losses else None,
                given=_passed(given),
                normed=_passed(normed),
                times=between.times.get(name),
            )
        )
    return stations


def _passed(values: Values | None) -> Passed | None:
    if values is None or not math.isfinite(values.rms):
        return None
    return Passed(values.rms, None if values.gradient_norm is None else _finite(values.gradient_norm))


def _loss(subject: Subject, objective: _Objective, by_hand: LossByHand, total: float) -> Loss:
    model = subject.model
    gradient = objective.gradient.double().cpu().numpy()
    size = float(np.linalg.norm(by_hand.gradient))
    difference = float(np.linalg.norm(gradient - by_hand.gradient))
    tokens = tokens_of(subject.batch) if objective.outputs.ndim > 2 else None  # None of a document's outputs
    parts = dict(by_hand.parts)
    if objective.router is not None:
        parts["router"] = objective.router
    return Loss(
        formula=by_hand.formula,
        settings=by_hand.settings,
        by_hand=by_hand.loss,
        parts=parts,
        objective=by_hand.loss + sum(parts.values()),
        by_torch=total,
        guess=subject.task.guess_loss(model.config),
        examples=[_example(subject, one, gradient) for one in by_hand.examples],
        num_outputs=by_hand.gradient.shape[-1],
        gradient_norm=size,
        gradient_difference=difference / size if size else difference,
        outputs_rms=_finite(rms_of(objective.outputs, tokens)),
    )


def _example(subject: Subject, one: TargetLoss, gradient: np.ndarray) -> Example:
    is_number = subject.task.predicts == "numbers"
    ids = subject.batch["input_ids"][one.index[0]].tolist()
    if len(one.index) > 1:  # a target in each place: the text up to it
        ids = ids[max(0, one.index[1] + 1 - CONTEXT_TOKENS) : one.index[1] + 1]
    number = 0 if is_number else int(one.target)
    return Example(
        before=subject.decode(ids[:SHOWN_TOKENS]),
        target=None if is_number else _named(subject, number),
        wanted=one.target if is_number else None,
        output=one.output,
        log_normalizer=one.log_normalizer,
        loss=one.loss,
        by_hand=one.gradient,
        by_autograd=float(gradient[(*one.index, number)]),
        likeliest=[record.Alternative(_named(subject, which), chance) for which, chance in one.likeliest],
    )


def _named(subject: Subject, number: int) -> Token:
    config = subject.model.config
    if has_head_over_labels(config):
        return Token(number, str((config.id2label or {}).get(number, number)))
    return Token(number, subject.decode([number]))


def _update(
    subject: Subject,
    objective: _Objective,
    entries: list[Entry],
    gradients: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    norm: float,
) -> OptimizerStep:
    """Clip the gradient and let the optimizer take a step, on the copy. `weights` are those before it."""
    model, optimizer, rate = subject.model, subject.optimizer, subject.rate
    assert optimizer is not None
    assert rate is not None
    for name, gradient in gradients.items():
        model.get_parameter(name).grad = gradient.clone()
    clip = _clip(subject, norm)
    set_learning_rate(optimizer, rate.value)
    foreseen = [foresee(optimizer, entry, model.base_model_prefix) for entry in entries]
    optimizer.step()
    updates = [with_outcome(one, entry) for entry, one in zip(entries, foreseen, strict=True)]
    changes = {name: model.get_parameter(name).detach().double() - weights[name].double() for name in gradients}
    with evaluating(model):
        after = float(objective())
    return OptimizerStep(
        optimizer=subject.config.optim,
        learning_rate=rate.value,
        rate_of_step=rate.step,
        is_last_rate=rate.is_last,
        clip=clip,
        updates=updates,
        predicted_change=sum(float((gradients[name].double() * change).sum()) for name, change in changes.items()),
        after=after,
    )


def _clip(subject: Subject, norm: float) -> Clip:
    """Clip the gradient of the copy as training does. `norm` is its own, in float64."""
    config = subject.config
    norms = Clipping(config, subject.model.device, subject.model)()
    others = {name: value for name in ("max_grad_value", "gradient_density") if (value := getattr(config, name))}
    factor: float | None = 1.0
    if others:
        factor = None  # entries are not all scaled alike
    elif config.max_grad_norm is not None:
        factor = min(1.0, config.max_grad_norm / norm) if norm else 1.0
    return Clip(norm, config.max_grad_norm, factor, float(norms.clipped_norm / norms.norm) if norm else 1.0, others)


def _differences(subject: Subject, objective: _Objective, entries: list[Entry]) -> tuple[list[Difference], str]:
    """Central differences, or why there are none."""
    model = subject.model
    objective.batch = {name: one.double() if one.is_floating_point() else one for name, one in subject.batch.items()}
    try:
        _compute_experts_singly(model)
        model.double()
        found = central_differences(model, objective, [(entry.parameter, entry.place) for entry in entries])
    except (RuntimeError, ValueError, TypeError) as error:
        return [], f"{type(model).__name__} does not compute in float64: {' '.join(str(error).split())[:200]}"
    named = zip(entries, found, strict=True)
    return [
        Difference(
            parameter=matrix_name(entry.name, model.base_model_prefix),
            index=entry.index,
            weight=entry.weight,
            autograd=entry.gradient,
            central=one.gradient,
            loss_up=one.loss_up,
            loss_down=one.loss_down,
            width=one.width,
        )
        for entry, one in named
    ], ""


def _compute_experts_singly(model: PreTrainedModel) -> None:
    """Products of grouped experts know no float64; one expert after the other does."""
    if any(hasattr(module, "_is_expert_parallel") for module in model.modules()):
        model.set_experts_implementation("eager")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
