"""Trainings on a mixture of sources, from the artifact of encode on: what they see, and where they go on."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokens.artifacts import run_stage, write_streams
from training.tiny import BLOCK_SIZE, GPT2, VOCAB_SIZE, context_for, make_tokenizer, run_train

from pipeline.atomic import write_json
from pipeline.corpus.document_shards import write_shards
from pipeline.corpus.documents import Document
from pipeline.modeling.model_config import ModelConfig
from pipeline.stages import model, pack
from pipeline.tasks.causal_lm import CausalLm
from pipeline.tokens.labels import write_labels
from pipeline.tokens.mixing import MixtureConfig
from pipeline.tokens.packing import PackConfig
from pipeline.tokens.source_bounds import bounds_of_sources

BOOKS, WEB, VALIDATION = range(2, 20), range(20, 40), range(40, 60)
"""The token ids of each source's documents, and of the validation split."""

WEIGHTS = {"books": 0.25, "web": 0.75}


def make_mixed(folder: Path, mixture: MixtureConfig | None, task: str = "causal_lm") -> tuple[dict[str, Path], Any]:
    """Inputs of the train stage, and the summary of pack: 10 books and 90 pages of the web, each of 31 tokens and an
    end. Labels are the length of the source's name."""
    draw = np.random.default_rng(0)

    def documents(ids: range, count: int) -> list[list[int]]:
        return [[*draw.integers(ids.start, ids.stop, 31).tolist(), 1] for _ in range(count)]

    sources = ["books"] * 10 + ["web"] * 90
    splits = {"train": documents(BOOKS, 10) + documents(WEB, 90)}
    splits |= {split: documents(VALIDATION, 9) for split in ("validation", "test")}
    write_streams(folder, splits, block_size=99, vocab_size=VOCAB_SIZE)
    shutil.rmtree(folder / "pack")
    write_shards(folder / "augment/train", [Document(str(n), "t", name, str(n)) for n, name in enumerate(sources)])
    encoded = json.loads((folder / "encode/encode.json").read_bytes())
    encoded["splits"]["train"]["sources"] = bounds_of_sources(folder / "augment/train", folder / "encode/train")
    write_json(folder / "encode/encode.json", encoded)
    for split, own in (("train", sources), ("validation", ["books", "web"] * 4), ("test", ["books", "web"] * 4)):
        labels = [str(len(name)) for name in own]
        write_labels([*labels, *[None] * (len(splits[split]) - len(labels))], folder / "encode" / split)
    make_tokenizer(folder / "tokenizer")
    strategy = "contiguous" if task == "causal_lm" else task
    section = PackConfig(block_size=BLOCK_SIZE, strategy=strategy, mixture=mixture)
    summary, said = run_stage(pack.STAGE, section, {"encode": folder / "encode"}, folder / "pack")
    given = {"tokenizer": folder / "tokenizer", "pack": folder / "pack"}
    config = ModelConfig(task=task, architecture="gpt2", config=GPT2)
    model.STAGE.run(context_for(config, given, folder / "model"))
    return {name: folder / name for name in ("pack", "encode", "model")}, (summary, said)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], Any]:
    return make_mixed(tmp_path_factory.mktemp("mixed"), MixtureConfig(weights=WEIGHTS, max_repeats=2))


def test_pack_tells_shares_and_repeats(mixed: tuple[dict[str, Path], Any]) -> None:
    """3,200 tokens are 200 windows, 20 of them of books. A quarter of 200 would be 2.5 times the books, and of 160 it
    is twice."""
    _, (summary, said) = mixed
    train = summary["splits"]["train"]
    assert train["mixture"] == {"books": {"share": 0.25, "repeats": 2.0}, "web": {"share": 0.75, "repeats": 120 / 180}}
    assert (train["windows"], train["epoch"]["windows"]) == (200, 160)
    assert train["epoch"]["target_tokens"] == 40 * 16 + 120 * (180 * 16 - 1) // 180
    assert "an epoch of 160 windows: books 25.0% (read 2 times), web 75.0% (read 0.667 times)" in said
    assert "mixture" not in summary["splits"]["validation"]


def test_training_sees_the_shares(
    mixed: tuple[dict[str, Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The targets of which the loss is taken, by the source whose ids they are."""
    seen: Counter[str] = Counter()
    loss_sums = CausalLm.loss_sums

    def counted(self: CausalLm, output: Any, batch: Any, config: Any) -> Any:
        if torch.is_grad_enabled():
            labels = batch["labels"]
            for name, ids in (("books", BOOKS), ("web", WEB), ("validation", VALIDATION)):
                seen[name] += int(((labels >= ids.start) & (labels < ids.stop)).sum())
        return loss_sums(self, output, batch, config)

    monkeypatch.setattr(CausalLm, "loss_sums", counted)
    changes = {"max_steps": None, "num_train_epochs": 2.0}
    summary = run_train(mixed[0], tmp_path, **changes)
    assert summary["steps"] == 2 * 160 // 4
    assert summary["epochs"] == 2.0
    assert summary["reads"] == {"books": 4.0, "web": round(240 / 180, 6)}
    assert ["books 3.95 times, more than pack.mixture.max_repeats 2" in one for one in summary["warnings"]] == [True]
    # One in 32 tokens ends a document; a window at the border has a token of the other source.
    assert seen["books"] == pytest.approx(80 * 16 * 31 / 32, abs=10)
    assert seen["web"] == pytest.approx(240 * 16 * 31 / 32, abs=10)


def test_a_training_goes_on_in_the_middle_of_an_epoch(mixed: tuple[dict[str, Path], Any], tmp_path: Path) -> None:
    run_train(mixed[0], tmp_path / "whole", max_steps=12)
    (tmp_path / "rest/work").mkdir(parents=True)
    shutil.copytree(tmp_path / "whole/work/step-00000008", tmp_path / "rest/work/step-00000008")
    shutil.copyfile(tmp_path / "whole/work/metrics.jsonl", tmp_path / "rest/work/metrics.jsonl")
    assert run_train(mixed[0], tmp_path / "rest", max_steps=12)["resumed_from_steps"] == [8]
    whole, rest = (load_file(tmp_path / name / "output/model/model.safetensors") for name in ("whole", "rest"))
    assert all(torch.equal(whole[name], rest[name]) for name in whole)


def test_shares_that_are_those_of_the_windows_train_the_same_weights(tmp_path: Path) -> None:
    own = MixtureConfig(weights={"books": 20, "web": 180})
    trained = []
    for name, mixture in (("plain", None), ("mixed", own)):
        inputs, _ = make_mixed(tmp_path / name, mixture)
        run_train(inputs, tmp_path / name / "training", max_steps=4)
        trained.append((tmp_path / name / "training/output/model/model.safetensors").read_bytes())
    assert trained[0] == trained[1]


def test_documents_with_labels_are_mixed_by_their_number(tmp_path: Path) -> None:
    inputs, (summary, _) = make_mixed(tmp_path, MixtureConfig(weights={"books": 1, "web": 4}), "classification")
    train = summary["splits"]["train"]
    assert train["mixture"] == {"books": {"share": 0.2, "repeats": 2.0}, "web": {"share": 0.8, "repeats": 80 / 90}}
    assert train["epoch"] == {"windows": 100, "target_tokens": 100}
    trained = run_train(inputs, tmp_path, max_steps=None, num_train_epochs=0.5)
    assert (trained["steps"], trained["epochs"]) == (13, 0.52)
