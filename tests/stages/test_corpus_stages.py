"""ingest, normalize, curate and augment: counts that add up, results that depend on no worker, clear failures."""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from harness import tells

from pipeline.atomic import digest_file, list_files
from pipeline.corpus import document_shards
from pipeline.corpus.augment_config import AugmentConfig
from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.document_shards import read_documents, read_shard, shard_paths, text_bytes, to_split_of
from pipeline.corpus.edits import Edit, apply_edits
from pipeline.corpus.ingest_config import IngestConfig
from pipeline.corpus.normalize_config import NormalizeConfig
from pipeline.engine.stage import StageContext
from pipeline.errors import BadDataError, MissingInputError
from pipeline.executors.local_session import LocalSession
from pipeline.progress import Progress
from pipeline.section import Section

Run = Callable[..., dict[str, Any]]
AUGMENT = {"fraction": 0.5, "operations": [{"type": "synonym"}, {"type": "keyboard"}]}
ALL_SHARDS = {"fraction": 0.5, "operations": [{"type": "synonym"}, {"type": "tf_idf"}]}
"""Copies for which all shards are read before."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run one stage on the artifacts of the others in a folder."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        session_of = cache(lambda workers: stack.enter_context(LocalSession(workers)))

        def run(name: str, section: Section, folder: str = "run", workers: int = 1, seed: int = 0) -> dict[str, Any]:
            stage = importlib.import_module(f"pipeline.stages.{name}").STAGE
            output = tmp_path / folder / name
            output.mkdir(parents=True)
            inputs = {upstream: tmp_path / folder / upstream for upstream in stage.upstream}
            progress = Progress(name)
            return stage.run(StageContext(section, seed, inputs, output, None, workers, progress, session_of(workers)))

        yield run


def write_jsonl(name: str, texts: list[str | None]) -> None:
    Path(name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def ingest_config(**fields: Any) -> IngestConfig:
    source = {"name": "s", "type": "jsonl", "paths": ["*.jsonl"], **fields.pop("source", {})}
    return IngestConfig.model_validate({"sources": [source], **fields})


def story(number: int) -> str:
    """A text of words that augmentation changes, in an order of its own: no two are near-duplicates."""
    words = f"story number {number} often starts on a big road and the quick traveller keeps walking home".split()
    random.Random(number).shuffle(words)
    return f"However, {' '.join(words)}."


def all_digests(folder: Path) -> dict[str, str]:
    return {name: digest_file(folder / name) for name in list_files(folder)}


def test_every_record_is_accounted_for(run: Run, tmp_path: Path) -> None:
    texts: list[str | None] = [story(n) for n in range(200)]
    write_jsonl("a.jsonl", [*texts, None, " ", "short", story(7), "123 456 789 123 456 789 1234 5678 90 12 34 56 78 9"])
    ingested = run("ingest", ingest_config(max_rejected_fraction=0.05))
    assert ingested["rejected"] == {"empty text": 1, "field 'text' is null": 1}
    assert ingested["documents_out"] == 203
    rejected = [json.loads(line) for line in (tmp_path / "run/ingest/rejected.jsonl").read_text().splitlines()]
    assert [entry["origin"] for entry in rejected] == ["a.jsonl:201", "a.jsonl:202"]

    normalized = run("normalize", NormalizeConfig())
    assert normalized["documents_in"] == normalized["documents_out"] == 203

    curated = run("curate", CurateConfig(validation_fraction=0.2, test_fraction=0.2))
    assert curated["dropped"] == {
        "fewer letters than min_alphabetic_ratio": 1,
        "repeats an earlier document": 1,
        "shorter than min_chars": 1,
    }
    assert curated["documents_in"] - sum(curated["dropped"].values()) == curated["documents_out"] == 200
    assert sum(split["documents"] for split in curated["splits"].values()) == 200
    dropped = [json.loads(line) for line in (tmp_path / "run/curate/dropped.jsonl").read_text().splitlines()]
    assert [entry["origin"] for entry in dropped] == ["a.jsonl:203", "a.jsonl:204", "a.jsonl:205"]

    augmented = run("augment", AugmentConfig.model_validate(AUGMENT))
    train = curated["splits"]["train"]["documents"]
    assert augmented["documents_in"] == train
    assert augmented["documents_out"] == train + augmented["changed"]["altered copies"]
    originals = {d.id: d.text for d in read_documents(tmp_path / "run/curate/train")}
    kept = {d.id: d.text for d in read_documents(tmp_path / "run/augment/train") if d.parent is None}
    assert kept == originals
    assert {d.parent for d in read_documents(tmp_path / "run/augment/train")} - {None} <= originals.keys()


def test_results_do_not_depend_on_the_number_of_workers(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        write_jsonl(f"{number}.jsonl", [*(story(n) for n in range(20 * number, 60 + 20 * number)), "short"])
    monkeypatch.setattr(
        "pipeline.corpus.readers.reading_jobs.SHARD_BYTES", 5000
    )  # less than a file, more than half of one
    monkeypatch.setattr("pipeline.executors.base_session.WORKER_BYTES", 1)
    for folder, workers in (("one", 1), ("many", 2), ("more", 3)):
        run("ingest", ingest_config(), folder, workers)
        run("normalize", NormalizeConfig(), folder, workers)
        run("curate", CurateConfig(validation_fraction=0.2, test_fraction=0.2), folder, workers)
        run("augment", AugmentConfig.model_validate(ALL_SHARDS), folder, workers)
    assert len(shard_paths(tmp_path / "one/ingest")) == 4
    for name in ("ingest", "normalize", "curate", "augment"):
        digests = [all_digests(tmp_path / folder / name) for folder in ("one", "many", "more")]
        assert digests[0] == digests[1] == digests[2]
    assert len(list((tmp_path / "one/augment/provenance").iterdir())) == 4


def test_a_shard_that_no_step_changes_is_taken_over_as_it_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_shards, "GROUP_BYTES", 1000)
    write_jsonl("a.jsonl", [story(n).lower() for n in range(60)])
    write_jsonl("b.jsonl", [*(story(n).lower() for n in range(60)), "\u0130 stays upper until the end"])
    sources = [{"name": name, "type": "jsonl", "paths": [f"{name}.jsonl"]} for name in "ab"]
    run("ingest", IngestConfig.model_validate({"sources": sources}))
    summary = run("normalize", NormalizeConfig.model_validate({"steps": [{"type": "lowercase"}]}))
    (same, old), (kept, changed) = (shard_paths(tmp_path / "run" / name) for name in ("ingest", "normalize"))
    assert (kept.samefile(same), changed.samefile(old)) == (True, False)
    *before, last_before = read_shard(old)
    *after, last = read_shard(changed)
    assert after == before
    assert (last.text, last.changes) == (last_before.text.lower(), ["normalize:lowercase"])
    assert summary["bytes_out"] == text_bytes(kept) + text_bytes(changed) == summary["bytes_in"] + 1  # i and a dot


def test_provenance_leads_from_each_copy_to_its_original_and_back(run: Run, tmp_path: Path) -> None:
    write_jsonl("a.jsonl", [story(n) for n in range(60)])
    run("ingest", ingest_config())
    run("normalize", NormalizeConfig())
    curated = run("curate", CurateConfig(validation_fraction=0.2, test_fraction=0.2))
    recipes = [{"operations": [{"type": "synonym", "probability": 0.5}, {"type": "keyboard", "probability": 0.2}]},
               {"operations": [{"type": "keyboard", "probability": 0.02}]}]  # fmt: skip
    section = AugmentConfig.model_validate({"fraction": 1.0, "copies": 3, "recipes": recipes, "max_added": 1.5})
    augmented = run("augment", section)
    originals = {d.id: d.text for d in read_documents(tmp_path / "run/curate/train")}
    shards = [path.name for path in shard_paths(tmp_path / "run/augment/train")]
    assert shards == ["shard-000000.parquet", "shard-000000b.parquet"]
    train = list(read_documents(tmp_path / "run/augment/train"))
    assert [d.id for d in train[: len(originals)]] == list(originals)
    rows = pq.read_table(tmp_path / "run/augment/provenance/shard-000000.parquet").to_pylist()
    copies = train[len(originals) :]
    assert [row["id"] for row in rows] == [copy.id for copy in copies]
    for row, copy in zip(rows, copies, strict=True):
        parent = originals[row["parent"]]
        back = [Edit(s["new_start"], s["new_stop"], parent[s["start"] : s["stop"]]) for s in row["spans"]]
        assert apply_edits(copy.text, back) == parent
        assert all(parent[s["start"] : s["stop"]] != copy.text[s["new_start"] : s["new_stop"]] for s in row["spans"])
        assert row["similarity"] <= 0.98
        operations = recipes[row["recipe"]]["operations"]
        for done in row["operations"]:
            assert {"type": done["type"], **json.loads(done["arguments"])}.items() >= next(
                one.items() for one in operations if one["type"] == done["type"]
            )
    dropped = augmented["copies_dropped"]
    assert set(dropped) == {"more text than max_added", "nothing to change"}
    assert len(copies) + sum(dropped.values()) == 3 * curated["splits"]["train"]["documents"]
    size = {True: 0, False: 0}
    for document in train:
        size[document.parent is None] += document.num_bytes
    assert 1.45 * size[True] < size[False] <= 1.5 * size[True]


def test_augmentation_that_is_off_makes_no_copy(run: Run, tmp_path: Path) -> None:
    write_jsonl("a.jsonl", [story(n) for n in range(60)])
    run("ingest", ingest_config())
    run("normalize", NormalizeConfig())
    run("curate", CurateConfig(validation_fraction=0.2, test_fraction=0.2))
    augmented = run("augment", AugmentConfig.model_validate({**AUGMENT, "enabled": False}))
    assert augmented["documents_out"] == augmented["documents_in"]
    assert list_files(tmp_path / "run/augment") == ["train/shard-000000.parquet"]


def test_documents_do_not_depend_on_the_size_of_shards(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl("a.jsonl", [story(n % 70) for n in range(100)])

    def train_texts(folder: str) -> list[str]:
        run("ingest", ingest_config(), folder)
        run("normalize", NormalizeConfig(), folder)
        run("curate", CurateConfig(validation_fraction=0.2, test_fraction=0.2), folder)
        run("augment", AugmentConfig.model_validate(AUGMENT), folder)
        # Copies stand behind the originals of their shard.
        return sorted(document.text for document in read_documents(tmp_path / folder / "augment/train"))

    whole = train_texts("whole")
    monkeypatch.setattr(document_shards, "SHARD_BYTES", 1000)
    assert train_texts("parts") == whole
    assert len(shard_paths(tmp_path / "parts/ingest")) > 5
    assert len(set(whole)) > 20


def test_too_many_rejected_records_fail(run: Run) -> None:
    write_jsonl("a.jsonl", [story(1), None, story(2)])
    with pytest.raises(
        BadDataError, match=r"1 of 3 records of s are unusable, the first is a\.jsonl:2 \(field .text. is null\)"
    ):
        run("ingest", ingest_config())


@pytest.mark.parametrize(
    ("texts", "limits", "problem"),
    [
        (["too short"], {}, "every document was dropped"),
        ([story(1)], {"test_fraction": 0.5, "validation_fraction": 0.4}, "no document fell into .* `separator`"),
    ],
)
def test_an_empty_corpus_or_split_fails_and_says_what_to_do(
    run: Run, texts: list[str | None], limits: dict[str, float], problem: str
) -> None:
    write_jsonl("a.jsonl", texts)
    run("ingest", ingest_config())
    run("normalize", NormalizeConfig())
    with pytest.raises(BadDataError, match=problem):
        run("curate", CurateConfig.model_validate(limits))


def test_a_separator_that_stands_nowhere_is_warned_of(run: Run) -> None:
    Path("a.txt").write_text("\n".join(story(number) for number in range(20_000)))
    assert Path("a.txt").stat().st_size > 1_000_000
    source = {"type": "text", "paths": ["a.txt"]}
    (warning,) = run("ingest", ingest_config(source=source | {"separator": "\n\n"}))["warnings"]
    assert warning.startswith("1 of 1 texts of s are longer than a megabyte in spite of the separator")
    for meant in (source | {"separator": "\n"}, source):
        assert "warnings" not in run("ingest", ingest_config(source=meant), f"cut {len(meant)}")


def test_what_may_be_meant_otherwise_is_warned_of(run: Run) -> None:
    rows = [f'"{story(n)}"' if n < 3 else rf"{story(n)}\n\nMore." if n < 6 else story(n) for n in range(20)]
    Path("a.tsv").write_text("\n".join(["text", *rows]))
    source = {"type": "csv", "paths": ["a.tsv"]}
    quoted, escaped = run("ingest", ingest_config(source=source))["warnings"]
    assert tells(quoted, "3 of 20 texts of s", "quotation marks", "set quotechar: '\"'")
    assert tells(escaped, "3 of 20 texts of s", r"\n in two characters", "write breaks into the source")
    Path("a.tsv").write_text("\n".join(["text", *rows[6:], *rows[6:], rows[0], rows[5]]))
    assert "warnings" not in run("ingest", ingest_config(source=source), "other")
    Path("a.csv").write_text("\n".join(["text", *(f"'{story(n)}'" if n < 3 else story(n) for n in range(20))]))
    source = {"type": "csv", "paths": ["a.csv"], "delimiter": "|"}
    (quoted,) = run("ingest", ingest_config(source=source), "csv")["warnings"]
    assert tells(quoted, "3 of 20 texts of s", "single quotation marks", 'set quotechar: "\'"')
    assert "warnings" not in run("ingest", ingest_config(source={**source, "quotechar": '"'}), "chosen")


def test_defaults_that_drop_much_of_a_source_are_warned_of(run: Run) -> None:
    Path("play.txt").write_text("\n\n".join([story(n) for n in range(73)] + [f"Aside, line {n}." for n in range(27)]))
    Path("prose.txt").write_text("\n\n".join([story(n) for n in range(100, 195)] + ["Two words.", *["Short."] * 4]))
    sources = [{"name": n, "type": "text", "paths": [f"{n}.txt"], "separator": "\n\n"} for n in ("play", "prose")]
    run("ingest", IngestConfig.model_validate({"sources": sources}))
    run("normalize", NormalizeConfig())
    shutil.copytree("run", "other")
    splits = {"validation_fraction": 0.2, "test_fraction": 0.2}
    (warning,) = run("curate", CurateConfig.model_validate(splits))["warnings"]
    assert tells(warning, "27 of 100 documents of play (27%): 27 shorter than min_chars (50)", "set curate.filters")
    # Chosen, be it as the default is.
    chosen = CurateConfig.model_validate({"filters": CurateConfig().model_dump()["filters"], **splits})
    (warning,) = run("curate", chosen, "other")["warnings"]
    assert tells(warning, "32 of 200 documents (16%) were dropped: 32 shorter than min_chars")


def test_repeats_that_nobody_asked_to_drop_are_warned_of(run: Run) -> None:
    texts: list[str | None] = [story(n) for n in range(100)] + [story(n) for n in range(40)]
    write_jsonl("a.jsonl", texts)
    run("ingest", ingest_config())
    run("normalize", NormalizeConfig())
    shutil.copytree("run", "other")
    splits = {"validation_fraction": 0.2, "test_fraction": 0.2}
    (warning,) = run("curate", CurateConfig.model_validate(splits))["warnings"]
    assert "40 of 140 documents of s (29%): 40 repeats an earlier document (curate.deduplicate: exact)" in warning
    (warning,) = run("curate", CurateConfig.model_validate({"deduplicate": "exact", **splits}), "other")["warnings"]
    assert tells(warning, "40 of 140 documents (29%) were dropped: 40 repeats an earlier document")


def sources_with(**to_split: str | None) -> IngestConfig:
    """A source of each of these names, which is also its file's."""
    kinds = [
        {"name": name, "type": "jsonl", "paths": [f"{name}.jsonl"], **({"split": split} if split else {})}
        for name, split in to_split.items()
    ]
    return IngestConfig.model_validate({"sources": kinds})


def test_a_source_goes_to_the_split_that_it_names_and_its_texts_stay_out_of_training(run: Run, tmp_path: Path) -> None:
    own = [story(n) for n in range(60)]
    bench = [f"{story(n)} It was asked of everyone in the town." for n in range(100, 120)]
    near = [f"Question: {text} The answer follows." for text in bench[:3]]
    watched = [f"{story(n)} It rained all day long there." for n in range(200, 210)]
    write_jsonl("web.jsonl", [*own, bench[5].upper(), *near, watched[0]])
    write_jsonl("bench.jsonl", list(bench))
    write_jsonl("watched.jsonl", [*watched, bench[7]])
    run("ingest", sources_with(web=None, bench="test", watched="validation"))
    run("normalize", NormalizeConfig())
    shutil.copytree("run", "both")
    curated = run("curate", CurateConfig(validation_fraction=0, test_fraction=0))

    assert curated["dropped"] == {"in the test source": 5, "in the validation source": 1}
    found = {split: {d.text for d in read_documents(tmp_path / f"run/curate/{split}")} for split in curated["splits"]}
    assert found == {"train": set(own), "validation": set(watched), "test": set(bench)}
    dropped = [json.loads(line) for line in (tmp_path / "run/curate/dropped.jsonl").read_text().splitlines()]
    assert {(entry["origin"], entry["reason"]) for entry in dropped} == {
        *((f"web.jsonl:{line}", "in the test source") for line in (61, 62, 63, 64)),
        ("web.jsonl:65", "in the validation source"),
        ("watched.jsonl:11", "in the test source"),
    }

    # The random split of the other source stays beside it.
    run("curate", CurateConfig(validation_fraction=0.2, test_fraction=0.2), "both")
    sources = {
        split: {d.source for d in read_documents(tmp_path / f"both/curate/{split}")} for split in curated["splits"]
    }
    assert sources == {"train": {"web"}, "validation": {"web", "watched"}, "test": {"web", "bench"}}


@pytest.mark.parametrize("deduplicate", ["exact", "none"])
def test_held_out_texts_stay_out_of_training_whether_repeats_stay_or_not(
    run: Run, tmp_path: Path, deduplicate: str
) -> None:
    write_jsonl("mine.jsonl", [*(story(n) for n in range(40)), story(3)])
    write_jsonl("bench.jsonl", [story(n) for n in range(30, 50)])
    write_jsonl("watched.jsonl", [f"{n} people said that it had rained all day long there." for n in range(5)])
    run("ingest", sources_with(mine="train", bench="test", watched="validation"))
    run("normalize", NormalizeConfig())
    section = CurateConfig.model_validate({"deduplicate": deduplicate})
    curated = run("curate", section)
    train = [d.text for d in read_documents(tmp_path / "run/curate/train")]
    repeated = [story(3)] if deduplicate == "none" else []
    assert curated["dropped"]["in the test source"] == 10
    assert train == [story(n) for n in range(30)] + repeated
    assert curated["splits"]["test"]["documents"] == 20


def test_shards_without_a_split_are_written_as_before(run: Run, tmp_path: Path) -> None:
    write_jsonl("a.jsonl", [story(n) for n in range(20)])
    run("ingest", ingest_config())
    run("ingest", ingest_config(source={"split": "test"}), "fixed")
    plain, fixed = (next(iter(shard_paths(tmp_path / folder / "ingest"))) for folder in ("run", "fixed"))
    assert to_split_of(plain) is None
    assert to_split_of(fixed) == "test"
    assert b"to_split" not in plain.read_bytes()


def test_empty_sources_fail(run: Run) -> None:
    Path("a.jsonl").write_text("\n\n")
    with pytest.raises(BadDataError, match="hold no document"):
        run("ingest", ingest_config())


@pytest.mark.parametrize("field", ["patient", "pacient"])
def test_a_field_of_groups_that_no_record_has_is_told(run: Run, field: str) -> None:
    rows = [{"text": story(number), **({"patient": "p"} if number == 2 else {})} for number in range(3)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"name": "s", "type": "jsonl", "paths": ["a.jsonl"], "group_field": field}
    told = pytest.raises(BadDataError, match=r"no document of s has a value in 'pacient'; mend its group_field")
    with told if field == "pacient" else nullcontext():
        run("ingest", IngestConfig.model_validate({"sources": [source]}))


def test_a_missing_lexicon_is_named(run: Run) -> None:
    stage = importlib.import_module("pipeline.stages.augment").STAGE
    section = AugmentConfig.model_validate({"operations": [{"type": "synonym", "lexicon": "none.txt"}]})
    with pytest.raises(MissingInputError, match=r"lexicon none\.txt does not exist"):
        stage.source_files(section)


def test_a_document_that_the_filters_drop_takes_no_other_with_it(run: Run, tmp_path: Path) -> None:
    # Equal up to white space, and only the second one has the characters that are asked for.
    write_jsonl("a.jsonl", ["one two three four five", "one two\n\nthree four five", *(story(n) for n in range(50))])
    run("ingest", ingest_config())
    run("normalize", NormalizeConfig())
    curated = run(
        "curate",
        CurateConfig.model_validate(
            {"filters": [{"type": "min_chars", "value": 24}], "validation_fraction": 0.2, "test_fraction": 0.2}
        ),
    )
    assert curated["dropped"] == {"shorter than min_chars": 1}
    assert curated["documents_out"] == 51


def test_small_corpora_start_no_processes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a pool was started")

    monkeypatch.setattr("pipeline.executors.local_session._Worker", refuse)
    sources = []
    for name in "abc":
        write_jsonl(f"{name}.jsonl", [f"{name}: {story(n)}" for n in range(30)])
        sources.append({"name": name, "type": "jsonl", "paths": [f"{name}.jsonl"]})
    run("ingest", IngestConfig.model_validate({"sources": sources}), workers=4)
    run("normalize", NormalizeConfig(), workers=4)
    run("curate", CurateConfig(validation_fraction=0.2, test_fraction=0.2), workers=4)
    run("augment", AugmentConfig.model_validate(AUGMENT), workers=4)


def test_labels_come_through_every_stage_and_copies_keep_them(run: Run, tmp_path: Path) -> None:
    rows = [json.dumps({"text": story(n), "grade": n / 7}) for n in range(60)]
    Path("a.jsonl").write_text("\n".join(rows))
    run("ingest", ingest_config(source={"label_field": "grade"}))
    run("normalize", NormalizeConfig.model_validate({"steps": [{"type": "lowercase"}]}))
    run("curate", CurateConfig(validation_fraction=0.2, test_fraction=0.2))
    run("augment", AugmentConfig.model_validate(AUGMENT))
    train = list(read_documents(tmp_path / "run/augment/train"))
    assert len(train) > 40
    for document in [*train, *read_documents(tmp_path / "run/curate/test")]:
        line = int(document.origin.split(":")[1])
        assert document.label is not None
        assert float(document.label) == (line - 1) / 7


def test_with_nothing_to_do_augment_takes_shards_over_as_they_are(run: Run, tmp_path: Path) -> None:
    write_jsonl("a.jsonl", [story(n) for n in range(30)])
    run("ingest", ingest_config())
    run("normalize", NormalizeConfig())
    curated = run("curate", CurateConfig(validation_fraction=0.2, test_fraction=0.2))
    summary = run("augment", AugmentConfig())
    (source,), (target,) = (shard_paths(tmp_path / "run" / stage / "train") for stage in ("curate", "augment"))
    assert os.path.samefile(source, target)
    train = curated["splits"]["train"]
    assert summary == {
        "documents_in": train["documents"],
        "documents_out": train["documents"],
        "bytes_in": train["bytes"],
        "bytes_out": train["bytes"],
        "dropped": {},
        "changed": {},
    }
    assert list_files(tmp_path / "run" / "augment") == [f"train/{target.name}"]
