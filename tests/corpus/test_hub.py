"""Datasets of the hub's kind: a local folder in a hub repository's layout, and what `save_to_disk` wrote."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from pipeline.corpus.documents import Document, Rejected
from pipeline.corpus.readers.hub_reader import read_hub
from pipeline.corpus.sources.hub import Hub
from pipeline.errors import BadDataError, ConfigError, DescentError, StorageError
from pipeline.features import files_of_key

CARD = """\
---
configs:
- config_name: plain
  data_files:
  - {split: train, path: data/train-*}
  - {split: test, path: data/test-*}
- config_name: other
  data_files: [{split: train, path: other.parquet}]
---
"""
TEXTS = [f"text number {n}" for n in range(250)]


@pytest.fixture(autouse=True)
def offline_in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))


def make_dataset(texts: list[str] = TEXTS) -> Any:
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["bad", "good"]),
            "id": datasets.Value("int64"),
        }
    )
    rows = {"text": texts, "label": [n % 3 - 1 for n in range(len(texts))], "id": list(range(len(texts)))}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture
def repository() -> Path:
    folder = Path("repository")
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    make_dataset().to_parquet(folder / "data/train-00000-of-00001.parquet")
    make_dataset(["held out"]).to_parquet(folder / "data/test-00000-of-00001.parquet")
    datasets.Dataset.from_dict({"body": ["one", None], "label": ["x", "y"]}).to_parquet(folder / "other.parquet")
    (folder / ".gitattributes").write_text("")
    return folder


def source(path: Path | str, **fields: Any) -> Hub:
    return Hub.model_validate({"name": "s", "type": "hub", "path": str(path), **fields})


def read(chosen: Hub) -> list[Document | Rejected]:
    return list(read_hub(chosen, Path("scratch")))


LABELS = [[None, "bad", "good"][n % 3] for n in range(len(TEXTS))]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_in_a_hub_repositorys_layout(repository: Path, streaming: bool) -> None:
    plain = {"config_name": "plain", "streaming": streaming}
    records = read(source(repository, label_field="label", **plain))
    assert [(r.text, r.label) for r in records if isinstance(r, Document)] == list(zip(TEXTS, LABELS, strict=True))
    assert records[-1].origin == "train#250"
    assert [r.text for r in read(source(repository, hub_split="test", **plain)) if isinstance(r, Document)] == [
        "held out"
    ]
    first, second = read(source(repository, config_name="other", streaming=streaming, text_field="body"))
    assert isinstance(first, Document)
    assert isinstance(second, Rejected)
    assert (first.text, second.origin, second.reason) == ("one", "train#2", "field 'body' is null")


def test_streaming_is_no_part_of_the_identity(repository: Path) -> None:
    assert source(repository).identity() == source(repository, streaming=True).identity()
    assert list(files_of_key([source(repository)])) == [
        "repository/README.md",
        "repository/data/test-00000-of-00001.parquet",
        "repository/data/train-00000-of-00001.parquet",
        "repository/other.parquet",
    ]


def test_a_changed_file_is_read_anew_even_with_its_old_times(tmp_path: Path) -> None:
    path = tmp_path / "lines/train.jsonl"
    path.parent.mkdir()
    for text in ("one", "two"):
        path.write_text(json.dumps({"text": text}))
        os.utime(path, ns=(1, 1))
        (record,) = read_hub(source(path.parent), tmp_path / f"scratch {text}")
        assert isinstance(record, Document)
        assert record.text == text


def test_files_can_be_chosen(repository: Path) -> None:
    records = read(source(repository, data_files=["other.par*"], text_field="body", label_field="label"))
    assert [r.label for r in records if isinstance(r, Document)] == ["x"]


@pytest.mark.parametrize("streaming", [False, True])
def test_folders_and_files_whose_names_look_like_wildcards(
    repository: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(["right"]).to_parquet(repository / "x [v2].parquet")
    make_dataset(["wrong"]).to_parquet(repository / "x v.parquet")
    for folder, text in {"part [1]": "right", "part 1": "wrong"}.items():
        (repository / folder).mkdir()
        make_dataset([text]).to_parquet(repository / folder / "x.parquet")
    shutil.copytree(repository, "run v/data [1]")
    make_dataset(["elsewhere"]).to_parquet("run v/data [1]/other.parquet")
    shutil.copytree(repository, "run [v]/data [1]")
    monkeypatch.chdir("run [v]")  # where a workspace lies, with what the library keeps meanwhile

    def texts(**fields: Any) -> list[str]:
        records = read(source("data [1]", streaming=streaming, **fields))
        return [record.text for record in records if isinstance(record, Document)]

    assert texts(config_name="plain") == TEXTS
    assert texts(data_files=["x [v2].parquet"]) == ["right"]
    assert texts(data_files=["x [vw].parquet"]) == ["wrong"]
    assert texts(data_files=["part [1]/*.parquet"]) == ["right"]
    assert texts(data_files=["part [12]/*.parquet"]) == ["wrong"]
    # Not by the path of a folder of links.
    with pytest.raises(BadDataError, match=r"s: data \[1\]: Unable to find 'data \[1\]/gone\.parquet'"):
        texts(data_files=["gone.parquet"])
    assert texts(config_name="other", text_field="body") == ["one"]
    make_dataset(["right"]).save_to_disk("saved [v2]")
    make_dataset(["wrong"]).save_to_disk("saved v")
    assert [r.text for r in read(source("saved [v2]")) if isinstance(r, Document)] == ["right"]


@pytest.mark.parametrize("streaming", [False, True])
def test_what_save_to_disk_wrote(streaming: bool) -> None:
    make_dataset().save_to_disk("one", num_shards=3)
    both = datasets.DatasetDict({"train": make_dataset(), "test": make_dataset(["held out"])})
    both.save_to_disk("both")
    for folder in ("one", "both"):
        records = read(source(folder, label_field="label", streaming=streaming))
        assert [(r.text, r.label) for r in records if isinstance(r, Document)] == list(zip(TEXTS, LABELS, strict=True))
    assert [r.text for r in read(source("both", hub_split="test")) if isinstance(r, Document)] == ["held out"]


def damage(repository: Path, change: str) -> dict[str, Any]:
    parquet = repository / "data/train-00000-of-00001.parquet"
    if change == "truncated":
        parquet.write_bytes(parquet.read_bytes()[:500])
    elif change == "bad line":
        (repository / "README.md").unlink()
        (repository / "lines.jsonl").write_text('{"text": "one"}\n{broken\n')
        return {"data_files": ["lines.jsonl"]}
    elif change == "outside":
        make_dataset().to_parquet("secret.parquet")
        (repository / "README.md").write_text(CARD.replace("other.parquet", "../secret.parquet"))
        return {"config_name": "other"}
    elif change == "pictures":
        (repository / "README.md").unlink()
        (repository / "one.png").write_bytes(b"picture")
        return {"data_files": ["one.png"]}
    else:
        (repository / "repository.py").write_text("open('executed', 'w')")
    return {"config_name": "plain"}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("change", ["truncated", "bad line", "outside", "pictures", "script"])
def test_damaged_and_hostile_repositories(repository: Path, change: str, streaming: bool) -> None:
    fields = damage(repository, change)
    with pytest.raises(BadDataError, match=r"^ingest\.sources: s: repository: ") as caught:
        read(source(repository, streaming=streaming, **fields))
    assert "\n" not in str(caught.value)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"config_name": "plane"}, "'plane' not found.*'plain'"),
        ({}, "onfig name is missing.*'plain'"),
        ({"config_name": "plain", "hub_split": "validation"}, "split.*validation.*'train'"),
        ({"config_name": "plain", "text_field": "body"}, "no column 'body': its columns are text, label, id"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_wrong_names_are_told_with_the_right_ones(
    repository: Path, fields: dict[str, Any], problem: str, streaming: bool
) -> None:
    with pytest.raises(DescentError, match=problem) as caught:
        read(source(repository, streaming=streaming, **fields))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ConfigError) != ("text_field" in fields)


def test_a_split_alone_is_asked_whose_it_is() -> None:
    """Other tools call the dataset's split so, and a training split of this run would hold nothing out."""
    with pytest.raises(ValueError, match="which split of the dataset is read is `hub_split`"):
        source("repository", split="train")
    both = source("repository", split="test", hub_split="train")
    assert (both.split, both.hub_split) == ("test", "train")


def test_a_saved_dataset_cannot_reach_out_of_its_folder() -> None:
    make_dataset().save_to_disk("one")
    make_dataset().save_to_disk("two")
    state = json.loads(Path("two/state.json").read_text())
    state["_data_files"][0]["filename"] = "../one/" + state["_data_files"][0]["filename"]
    Path("two/state.json").write_text(json.dumps(state))
    with pytest.raises(BadDataError, match="lies outside of its folder"):
        read(source("two"))
    Path("two/state.json").write_text("{broken")
    with pytest.raises(BadDataError, match=r"^ingest\.sources: s: two: "):
        read(source("two"))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_that_cannot_be_reached_is_an_input_output_error(streaming: bool) -> None:
    with pytest.raises(StorageError, match="the hub cannot be reached"):
        read(source("owner/name", revision="a" * 40, streaming=streaming))


def test_no_other_commit_is_taken_from_the_cache(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cached:
        hash = "b" * 40
        name = "cache"

    load: Callable[..., Any] = lambda *arguments, **options: Cached()  # noqa: E731
    monkeypatch.setattr("datasets.load_dataset_builder", load)
    with pytest.raises(StorageError, match=r"commit a{40} can be had neither from the hub nor its cache"):
        read(source("owner/name", revision="a" * 40))
