"""Trainings on documents with labels: resumed to the bit, alike in two processes, started from a language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokens.artifacts import write_streams
from training.tiny import (
    GPT2,
    LLAMA,
    VOCAB_SIZE,
    context_for,
    make_inputs,
    make_tokenizer,
    metrics,
    outcome,
    run_train,
    train_in_child,
    train_in_children,
)

from pipeline.modeling.build import build_model, load_hf_tokenizer
from pipeline.modeling.heads import head_over_labels
from pipeline.modeling.inputs import model_inputs, trusted_inputs
from pipeline.modeling.model_config import ModelConfig
from pipeline.stages import model, pack
from pipeline.tokens.labelled_split import LabelledSplit
from pipeline.tokens.labels import write_labels
from pipeline.tokens.packing import PackConfig

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
MIXTURE = {**SMALL, "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 2}
ARCHITECTURES = {"llama": LLAMA, "gpt2": GPT2, "bert": SMALL, "mixtral": MIXTURE, "grok1": MIXTURE}


def make_labelled(
    folder: Path,
    task: str,
    architecture: str = "llama",
    config: dict[str, Any] = LLAMA,
    train_documents: int = 70,
    are_shuffled: bool = False,
) -> dict[str, Path]:
    """Inputs of the train stage: documents of which those with a token below 20 are of another class, or number; or any
    documents, with shuffled labels."""
    draw = np.random.default_rng(3)
    splits: dict[str, list[list[int]]] = {}
    for split, count in (("train", train_documents), ("validation", 21), ("test", 9)):
        splits[split] = [[*draw.integers(20, VOCAB_SIZE, draw.integers(1, 20)).tolist(), 1] for _ in range(count)]
        for document in splits[split][::2]:
            document[0] = int(draw.integers(2, 20))
    make_tokenizer(folder / "tokenizer")
    write_streams(folder, splits, block_size=99, vocab_size=VOCAB_SIZE)
    for split, documents in splits.items():
        labels = [
            ("low" if task == "classification" else "-1.5")
            if d[0] < 20
            else ("high" if task == "classification" else "1")
            for d in documents
        ]
        labels = np.random.default_rng(5).permutation(labels).tolist() if are_shuffled else labels
        write_labels(labels, folder / "encode" / split)
    section = PackConfig(block_size=16, strategy=task)
    pack.STAGE.run(context_for(section, {"encode": folder / "encode"}, folder / "labelled"))
    given = {"tokenizer": folder / "tokenizer", "pack": folder / "labelled"}
    model.STAGE.run(
        context_for(ModelConfig(task=task, architecture=architecture, config=config), given, folder / "model")
    )
    return {"pack": folder / "labelled", "encode": folder / "encode", "model": folder / "model"}


def test_a_killed_training_ends_in_the_same_bits(tmp_path: Path) -> None:
    inputs = make_labelled(tmp_path, "classification", "gpt2", GPT2)
    assert train_in_child(inputs, tmp_path / "whole") == 0
    whole = outcome(tmp_path / "whole", "output0")
    assert train_in_child(inputs, tmp_path / "killed", ("forward", 15, "SIGKILL")) == -9
    assert train_in_child(inputs, tmp_path / "killed") == 0
    assert outcome(tmp_path / "killed", "output1") == whole


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    plain = make_labelled(tmp_path, "regression")
    assert train_in_children(plain, tmp_path / "one", 1) == [0]
    assert train_in_children(plain, tmp_path / "two", 2) == [0, 0]
    for one, two in zip(metrics(tmp_path / "one/output0"), metrics(tmp_path / "two/output0"), strict=True):
        for tag in one.keys() & {"train/loss", "eval/loss", "eval/mse", "eval/mae"}:
            assert two[tag] == pytest.approx(one[tag], rel=1e-4), "twelve steps apart by rounding alone"


def test_a_classifier_starts_from_a_language_model(tmp_path: Path) -> None:
    run_train(make_inputs(tmp_path / "text"), tmp_path / "run")
    inputs = make_labelled(tmp_path, "classification")
    changes = {
        "init_from": str(tmp_path / "run/output/model"),
        "learning_rate": 1e-12,
        "warmup_steps": 0,
        "max_steps": 1,
    }
    summary = run_train(inputs, tmp_path / "fine", **changes)
    started, given = (
        load_file(folder / "model/model.safetensors") for folder in (tmp_path / "fine/output", tmp_path / "run/output")
    )
    assert torch.allclose(started["model.embed_tokens.weight"], given["model.embed_tokens.weight"], atol=1e-9)
    assert (summary["target_tokens"], summary["sequences"]) == (4, 4)
    config = json.loads((tmp_path / "fine/output/model/config.json").read_text())
    assert config["id2label"] == {"0": "high", "1": "low"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_told_of_a_document_does_not_depend_on_its_padding(tmp_path: Path, architecture: str) -> None:
    make_tokenizer(tmp_path)
    section = ModelConfig(task="classification", architecture=architecture, config=ARCHITECTURES[architecture])
    head = head_over_labels("single_label_classification", 3)
    network = build_model(section, load_hf_tokenizer(tmp_path), 1, head).eval()
    lengths = np.array([3, 15])
    split = LabelledSplit(
        stream=np.arange(2, 20).astype(np.uint16), starts=np.array([0, 3]), lengths=lengths, targets=np.array([0, 1]),
        documents=np.arange(2), block_size=16, vocab_size=VOCAB_SIZE, pad_token_id=0, suffix_token_ids=(1,),
        label_dtype=np.int64,
    )  # fmt: skip

    def told(indices: list[int]) -> torch.Tensor:
        batch = {name: torch.from_numpy(values) for name, values in split.batch(indices).items()}
        with torch.no_grad(), trusted_inputs():
            return network(**model_inputs(batch)).logits

    together = told([0, 1])
    # Float32 sums over keys of another number.
    torch.testing.assert_close(together, torch.cat([told([0]), told([1])]), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-4)
