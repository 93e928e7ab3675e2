"""Documents with labels as sequences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from harness import tells
from tokens.artifacts import run_stage, write_streams

from pipeline.errors import BadDataError
from pipeline.stages.pack import STAGE
from pipeline.tasks import task_of_split
from pipeline.tasks.classification import Classification
from pipeline.tokens.labelled_split import LabelledSplit
from pipeline.tokens.labels import write_labels
from pipeline.tokens.packing import PackConfig

DOCUMENTS = [[5, 6, 1], [7, 1], [8, 9, 10, 11, 1], [1], [12, 13, 1]]
EOS, PAD = 1, 0


def pack(folder: Path, labels: dict[str, list[str | None]], strategy: str) -> tuple[dict, str]:
    """Pack DOCUMENTS, as each of the splits, with these labels."""
    write_streams(folder, dict.fromkeys(labels, DOCUMENTS), block_size=99, vocab_size=50)
    for split, of in labels.items():
        write_labels(of, folder / "encode" / split)
    section = PackConfig(block_size=4, strategy=strategy)
    return run_stage(STAGE, section, {"encode": folder / "encode"}, folder / "out")


def opened(folder: Path, split: str) -> LabelledSplit:
    return task_of_split(folder / "out", split).open_split(folder / "out", folder / "encode", split)


def test_sequences_are_cut_padded_and_end_in_the_end_of_document(tmp_path: Path) -> None:
    pack(tmp_path, {"train": ["b", None, "a", "b", "c"]}, "classification")
    split = opened(tmp_path, "train")
    assert (len(split), split.num_targets(range(4)), split.num_tokens_in([0, 1, 2])) == (4, 4, 3 + 4 + 1)
    batch = split.batch([1, 0, 2])
    assert batch["input_ids"].tolist() == [[8, 9, 10, EOS], [5, 6, EOS, PAD], [EOS, PAD, PAD, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]]
    assert (batch["labels"].tolist(), batch["labels"].dtype) == ([0, 1, 1], np.int64)
    assert split.batch([2])["input_ids"].shape == (1, 1), "no longer than the longest"
    assert split.documents.tolist() == [0, 2, 3, 4]


def test_classes_are_those_of_the_training_split_sorted(tmp_path: Path) -> None:
    labels = {"train": ["b", None, "a", "b", "10"], "test": ["a", "z", "10", None, "zz"]}
    summary, said = pack(tmp_path, labels, "classification")
    assert json.loads((tmp_path / "out/labels/classes.json").read_text()) == {
        "task": "classification",
        "classes": ["10", "a", "b"],
    }
    assert opened(tmp_path, "test").targets.tolist() == [1, 0]
    test = summary["splits"]["test"]
    assert test["dropped"] == {"without a label": 1, "label not in the training split": 2}
    assert test["classes"] == {"10": 1, "a": 1, "b": 0}
    assert summary["splits"]["train"]["truncated"] == 1
    assert summary["dropped"] == {"without a label": 2, "label not in the training split": 2}
    assert "test: 2 documents left out: label not in the training split" in said
    assert "train: 1 of 4 documents are cut after 4 tokens; raise pack.block_size" in said


def test_numbers_are_what_the_text_says(tmp_path: Path) -> None:
    summary, _ = pack(tmp_path, {"train": ["1e-3", "-2.5", None, "0.1", "7"]}, "regression")
    split = opened(tmp_path, "train")
    assert split.targets.tolist() == [0.001, -2.5, 0.1, 7.0]
    assert split.batch([0])["labels"].dtype == np.float32
    train = summary["splits"]["train"]
    assert (train["min"], train["max"], train["mean"]) == (-2.5, 7.0, pytest.approx(1.15025))
    assert json.loads((tmp_path / "out/labels/classes.json").read_text())["classes"] is None


def test_numbers_far_from_one_are_warned_of(tmp_path: Path) -> None:
    labels: list[str | None] = ["1", "2", "3", "2", "1"]
    summary, _ = pack(tmp_path / "near", {"train": labels}, "regression")
    assert "warnings" not in summary
    summary, _ = pack(tmp_path / "far", {"train": [f"{label}000" for label in labels]}, "regression")
    assert summary["warnings"][0].startswith("the labels have mean 1.8e+03 and standard deviation 748, and are not re")


def test_classes_that_may_be_one_are_warned_of_once(tmp_path: Path) -> None:
    labels: list[str | None] = ["pos", "Pos", "neg", "1", "1.00"]
    summary, _ = pack(tmp_path / "a", {"train": labels, "test": ["neg", "NEG", "pos", "none", None]}, "classification")
    alike, missing = summary["warnings"]
    assert tells(alike, "differ in nothing but", "'1' and '1.00'; 'NEG' and 'neg'; 'Pos' and 'pos'; each is a class")
    assert tells(missing, "look like missing labels: 'none'")
    summary, _ = pack(tmp_path / "b", {"train": ["a", "b", "a", "b", None]}, "classification")
    assert "warnings" not in summary


@pytest.mark.parametrize("label", ["three", "nan", "inf", "1_000", "1,5", ""])
def test_a_label_that_is_no_number_is_named_with_its_place(tmp_path: Path, label: str) -> None:
    with pytest.raises(BadDataError, match=r"document 3 of the train split is no finite number") as error:
        pack(tmp_path, {"train": ["1", "2", label, "4", "5"]}, "regression")
    assert repr(label) in str(error.value)
    assert error.value.exit_code == 65


def test_what_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    labels: dict[str, list[str | None]] = {"train": ["a", "b", "a", "b", "a"], "test": [None] * 5}
    with pytest.raises(BadDataError, match="no document of the test split has a label; name where labels are"):
        pack(tmp_path / "a", labels, "classification")
    with pytest.raises(BadDataError, match=r"test split can be used \(5 label not in the training split\)"):
        pack(tmp_path / "b", {**labels, "test": ["x"] * 5}, "classification")
    with pytest.raises(BadDataError, match="all labels of the training split are 'a'; a classification needs two"):
        Classification().classes_of(["a", None, "a"])


def test_other_labels_change_the_split_that_has_them_alone(tmp_path: Path) -> None:
    labels: dict[str, list[str | None]] = {"train": ["a", "b", "a", "b", "a"], "test": ["a", "b", "a", "b", "a"]}
    digests = []
    for name, of in (("one", labels), ("other", {**labels, "test": ["b", "b", "a", "b", "a"]})):
        pack(tmp_path / name, of, "classification")
        out = tmp_path / name / "out"
        digests.append({split: (out / split / "targets.npy").read_bytes() for split in labels})
    assert digests[0]["train"] == digests[1]["train"]
    assert digests[0]["test"] != digests[1]["test"]
