"""Loss and gradient are normalized by the target tokens of the whole global batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training.tiny import LLAMA, in_processes, make_streams, make_tokenizer

from pipeline.evaluation.losses import Batch, LossSums
from pipeline.modeling.build import build_model, load_hf_tokenizer
from pipeline.modeling.heads import CAUSAL_LM, head_over_labels
from pipeline.modeling.model_config import ModelConfig
from pipeline.progress import Progress
from pipeline.tasks import task_named
from pipeline.tasks.causal_lm import CausalLm
from pipeline.tokens.labelled_split import LabelledSplit
from pipeline.tokens.packed_split import PackedSplit
from pipeline.training.build_state import build
from pipeline.training.loop import train
from pipeline.training.recording.trackers import RunLabel
from pipeline.training.train_config import TrainConfig

TOLERANCE = 1e-6
"""Relative; float32 has 6e-8 a rounding, and a sum of some hundred terms in another order loses a few of them."""

GLOBAL_BATCH = 8
ACCUMULATIONS = (1, 2, 4)
SPLITS = ("ragged", "padded", "packed")
HEADS = {
    "classification": head_over_labels("single_label_classification", 3),
    "regression": head_over_labels("regression", 1),
}
LABELLED = tuple(HEADS)


class PaddedSplit:
    """Eight windows of the given lengths, padded on the right."""

    block_size = 16
    vocab_size = 64

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self.lengths = lengths
        self.target_tokens = sum(lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def num_targets(self, indices: Iterable[int]) -> int:
        return sum(self.lengths[index] for index in indices)

    def num_tokens_in(self, indices: Iterable[int]) -> int:
        return self.num_targets(indices)

    def samples(self, limit: int) -> Iterator[np.ndarray]:
        batch = self.batch(range(len(self)))
        yield batch["labels"][batch["labels"] != -100]

    def batch(self, indices: Iterable[int]) -> dict[str, np.ndarray]:
        random = np.random.default_rng(0)
        ids = random.integers(2, 64, (len(self.lengths), 17))
        input_ids, labels = ids[:, :-1].copy(), ids[:, 1:].copy()
        for row, length in enumerate(self.lengths):
            input_ids[row, length:], labels[row, length:] = 0, -100
        chosen = list(indices)
        return {"input_ids": input_ids[chosen], "labels": labels[chosen]}


def labelled_split(task: str) -> LabelledSplit:
    """Eight documents of 2 to 16 tokens, with one of three classes or a number."""
    random = np.random.default_rng(0)
    lengths = np.array([16, 2, 4, 15, 16, 3, 9, 2])
    classes, numbers = random.integers(0, 3, len(lengths)), random.normal(size=len(lengths))
    return LabelledSplit(
        stream=random.integers(2, 64, lengths.sum()).astype(np.uint16),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        targets=classes if task == "classification" else numbers,
        documents=np.arange(len(lengths)),
        block_size=16,
        vocab_size=64,
        pad_token_id=0,
        suffix_token_ids=(1,),
        label_dtype=np.int64 if task == "classification" else np.float32,
    )


def split_of(name: str, folder: Path) -> Any:
    if name in LABELLED:
        return labelled_split(name)
    if name == "packed":
        return PackedSplit.open(folder / "pack", folder / "encode", "train")
    # In "padded", several micro-batches have no target at all.
    return PaddedSplit((16, 1, 3, 15, 16, 2, 9, 1) if name == "ragged" else (1, 0, 0, 16, 0, 0, 2, 0))


def gradients(index: int, folder: Path, count: int, bug: bool) -> None:
    """Save the gradient of the first global batch for each split and accumulation, to `gradients-<count>.pt`: what one
    step of plain descent with a rate of 1 takes away. With a bug, micro-batches are averaged by their own tokens."""
    if bug:
        CausalLm.loss_sums = mean_of_means
    found = {}
    for name in (*SPLITS, *(() if bug else LABELLED)):
        split = split_of(name, folder)
        head, task = HEADS.get(name, CAUSAL_LM), task_named(name if name in LABELLED else "causal_lm")
        for accumulation in ACCUMULATIONS:
            model = build_model(ModelConfig(config=LLAMA), load_hf_tokenizer(folder / "tokenizer"), seed=1, head=head)
            before = [parameter.detach().clone() for parameter in model.parameters()]
            section = TrainConfig(
                max_steps=1,
                mixed_precision="no",
                global_batch_size=GLOBAL_BATCH,
                per_device_train_batch_size=GLOBAL_BATCH // accumulation // count,
                optim="sgd",
                momentum=0.0,
                weight_decay=0.0,
                learning_rate=1.0,
                max_grad_norm=None,
                eval_batches=1,
            )
            validation = split if name in LABELLED else split_of("ragged", folder)
            work = folder / f"work-{name}-{accumulation}-{count}-{bug}"
            state = build(
                section,
                model,
                task,
                split,
                validation,
                give_weights=lambda model, device: None,
                seed=0,
                chosen={},
                work=work,
                progress=Progress("test"),
                fail=lambda error: None,
                label=RunLabel("test", {}),
            )
            train(state)
            pairs = zip(before, model.parameters(), strict=True)
            found[name, accumulation] = torch.cat([(old - new.detach()).flatten() for old, new in pairs])
    if index == 0:
        torch.save(found, folder / f"gradients-{count}-{bug}.pt")


def mean_of_means(task: CausalLm, output: Any, batch: Batch, section: TrainConfig) -> LossSums:
    """The bug that this project was named to avoid: as if every micro-batch had as many targets as any other."""
    labels = batch["labels"]
    targets = int((labels != -100).sum())
    loss = torch.nn.functional.cross_entropy(output.logits.flatten(0, 1), labels.flatten(), reduction="sum")
    total = loss / max(1, targets) * labels.numel()
    return LossSums(total, {"loss": loss.detach()})


@pytest.fixture(scope="module")
def compute(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("gradients")
    make_tokenizer(folder / "tokenizer")
    make_streams(folder, {"train": 117})  # seven windows of 16 targets and one of 4

    def compute(count: int, bug: bool = False) -> dict[tuple[str, int], torch.Tensor]:
        file = folder / f"gradients-{count}-{bug}.pt"
        if not file.exists():
            assert in_processes(count, gradients, folder, count, bug) == [0] * count
        return torch.load(file)

    return compute


def relative_error(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("name", [*SPLITS, *LABELLED])
@pytest.mark.parametrize("count", [1, 2])
def test_gradient_is_the_same_for_any_accumulation_and_number_of_processes(compute, count, name):
    whole = compute(1)[name, 1]
    assert float(whole.norm()) > 0.1
    for accumulation in ACCUMULATIONS:
        assert relative_error(compute(count)[name, accumulation], whole) < TOLERANCE


@pytest.mark.parametrize("count", [1, 2])
def test_mean_of_means_would_be_noticed(compute, count):
    for name in SPLITS:
        errors = [
            relative_error(compute(count, bug=True)[name, accumulation], compute(1)[name, 1])
            for accumulation in ACCUMULATIONS
        ]
        assert max(errors) > 1000 * TOLERANCE
