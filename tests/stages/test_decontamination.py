"""Held-out texts and benchmarks stay out of training, and what is common all the same is told."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import tells

from pipeline.atomic import digest_file, list_files
from pipeline.corpus import document_shards
from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.document_shards import read_documents, write_shards
from pipeline.corpus.documents import Document, SplitName
from pipeline.engine.stage import StageContext
from pipeline.errors import BadDataError, ConfigError, MissingInputError
from pipeline.executors.local_session import LocalSession
from pipeline.progress import Progress
from pipeline.stages.curate import STAGE

WORDS = [f"word{n}" for n in range(2000)]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_shard(folder: Path, texts: Sequence[str], source: str = "web", to_split: SplitName | None = None) -> None:
    """A shard of documents, whose ids are the source and their number."""
    number = len(list((folder / "in").glob("*"))) if (folder / "in").is_dir() else 0
    documents = [Document(f"{source}-{n}", text, source, f"{source}:{n}") for n, text in enumerate(texts)]
    write_shards(folder / "new", documents, to_split)
    (folder / "in").mkdir(exist_ok=True)
    (folder / "new" / document_shards.shard_name(0)).rename(folder / "in" / document_shards.shard_name(number))


def curate(folder: Path, workers: int = 1, name: str = "out", **settings: Any) -> dict[str, Any]:
    """The stage's summary; its artifact is the folder `name`."""
    fixed = {"filters": [], "near_duplicates": None, "validation_fraction": 0.2, "test_fraction": 0.2}
    config = CurateConfig.model_validate(fixed | settings)
    (folder / name).mkdir()
    with LocalSession(workers) as session:
        inputs = {"normalize": folder / "in"}
        return STAGE.run(StageContext(config, 0, inputs, folder / name, None, workers, Progress("x"), session))


def write_benchmark(name: str, questions: Sequence[str], field: str = "question") -> dict[str, Any]:
    Path(f"{name}.jsonl").write_text("\n".join(json.dumps({field: text}) for text in questions))
    return {"type": "jsonl", "name": name, "paths": [f"{name}.jsonl"], "text_field": "question"}


def sentence(draw: random.Random, number: int) -> str:
    return " ".join(draw.choices(WORDS, k=number))


def runs_of(text: str, size: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[n : n + size]) for n in range(len(words) - size + 1)}


def stays(folder: Path, name: str = "out") -> set[str]:
    return {one.id for split in ("train", "validation", "test") for one in read_documents(folder / name / split)}


def test_a_document_that_holds_a_question_goes_and_is_listed(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(0)
    questions = [sentence(draw, 20) for _ in range(50)]
    eight, seven = sentence(draw, 8), sentence(draw, 7)
    texts = [sentence(draw, 100) for _ in range(40)]
    texts[3] += f"\n\nQ: {questions[7].upper().replace(' ', ', ')}? A: none.\n\n{sentence(draw, 300)}"
    texts[5] += " " + " ".join(questions[8].split()[4:17])  # 13 words
    texts[6] += " " + " ".join(questions[9].split()[4:16])  # 12 words
    texts[8] += f" {eight} {sentence(draw, 5)}"
    texts[9] += f" {seven} {sentence(draw, 5)}"
    add_shard(corpus, texts)
    add_shard(corpus, questions[:5], "exam", "test")
    against = [write_benchmark("quiz", [*questions, eight]), write_benchmark("short", [seven, questions[7], eight])]
    summary = curate(corpus, decontaminate={"against": against})
    assert summary["dropped"] == {"in benchmark quiz": 3}
    assert summary["benchmarks"] == {
        "quiz": {"texts": 51, "too_short": 0, "rejected": 0},
        "short": {"texts": 3, "too_short": 1, "rejected": 0},
    }
    assert "x: short: 1 of 3 texts have fewer than 8 words and are not looked for\n" in capsys.readouterr().err
    gone = {"web-3", "web-5", "web-8"}
    assert stays(corpus) == {*(f"web-{n}" for n in range(40)), *(f"exam-{n}" for n in range(5))} - gone
    listed = [json.loads(line) for line in (corpus / "out/dropped.jsonl").read_text().splitlines()]
    assert {(one["id"], one["reason"]) for one in listed} == {(name, "in benchmark quiz") for name in gone}


@pytest.mark.parametrize("max_share", [0.0, 0.1])
def test_what_goes_is_what_sets_of_runs_say(corpus: Path, max_share: float) -> None:
    draw = random.Random(1)
    benchmark = [sentence(draw, draw.randint(8, 60)) for _ in range(30)]
    texts = []
    for _ in range(300):
        words = sentence(draw, draw.randint(3, 120)).split()
        for _ in range(draw.randint(0, 2)):
            copied = draw.choice(benchmark).split()
            start = draw.randrange(len(copied) - 7)
            at = draw.randint(0, len(words))
            words[at:at] = copied[start : start + draw.randint(1, 25)]
        texts.append(" ".join(words))
    add_shard(corpus, texts[:170])
    add_shard(corpus, texts[170:], "more")
    against = [write_benchmark("quiz", benchmark)]
    curate(corpus, decontaminate={"against": against, "max_share": max_share})
    expected = set()
    for number, text in enumerate(texts):
        shares = []
        for size in range(8, 14):
            wanted = {run for one in benchmark if min(13, len(one.split())) == size for run in runs_of(one, size)}
            words = text.split()
            own = [tuple(words[n : n + size]) for n in range(len(words) - size + 1)]
            shares.append(sum(run in wanted for run in own) / max(1, len(own)))
        if not any(share > max_share for share in shares):
            expected.add(f"web-{number}" if number < 170 else f"more-{number - 170}")
    assert 100 < len(expected) < 290
    assert stays(corpus) == expected


def test_a_benchmark_without_texts_to_look_for_is_an_error(corpus: Path) -> None:
    add_shard(corpus, [sentence(random.Random(2), 50)])
    against = [write_benchmark("quiz", ["a question " * 10, "too short"], field="prompt")]
    with pytest.raises(BadDataError) as error:
        curate(corpus, decontaminate={"against": against})
    message = str(error.value)
    assert tells(message, "curate.decontaminate.against", "quiz", "no text of 8 words", "2 unusable records", "against")
    assert tells(message, "the first: no field 'question': it has prompt")


def test_what_filters_and_benchmarks_need_is_looked_at_before_the_first_stage(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(**settings: Any) -> None:
        STAGE.check(SimpleNamespace(curate=CurateConfig.model_validate(settings)))

    Path("no_model.bin").write_text("no model")
    with pytest.raises(ConfigError, match="is no model of fastText"):
        check(filters=[{"type": "fasttext", "path": "no_model.bin", "label": "good"}])
    against = [write_benchmark("quiz", [sentence(random.Random(0), 20)])]
    check(decontaminate={"against": against})
    wrong = [write_benchmark("other", ["a question"], field="prompt")]
    with pytest.raises(
        BadDataError, match=r"^curate\.decontaminate\.against: other: other\.jsonl: no field 'question'"
    ):
        check(decontaminate={"against": wrong})
    with pytest.raises(MissingInputError, match=r"^curate\.decontaminate\.against: other: 'gone' matches no file"):
        check(decontaminate={"against": [wrong[0] | {"paths": ["gone"]}]})
    monkeypatch.setattr("pipeline.corpus.sources.base_web_pages.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pages: it needs .*pip install 'descent-pipeline\[web\]'"):
        check(decontaminate={"against": [*against, {"name": "pages", "type": "html", "paths": ["."]}]})


def test_benchmarks_are_files_of_the_key(corpus: Path) -> None:
    section = CurateConfig.model_validate({"decontaminate": {"against": [write_benchmark("quiz", ["one"])]}})
    assert STAGE.source_files(section) == {"quiz.jsonl": [Path("quiz.jsonl")]}


def test_leakage_is_what_sets_of_runs_say_and_is_warned_of(corpus: Path) -> None:
    draw = random.Random(3)
    passages = [sentence(draw, 30) for _ in range(60)]
    texts = [f"{sentence(draw, draw.randint(0, 30))}. {draw.choice(passages)}" for _ in range(500)]
    add_shard(corpus, texts[:200])
    add_shard(corpus, texts[200:], "more")
    summary = curate(corpus)
    found = {split: [one.text for one in read_documents(corpus / "out" / split)] for split in summary["splits"]}
    train = set().union(*(runs_of(text, 8) for text in found.pop("train")))
    for split, held_out in found.items():
        runs = [runs_of(text, 8) for text in held_out]
        overlapping = sum(len(own & train) >= len(own) / 2 for own in runs)
        assert summary["leakage"][split] == {
            "documents": len(held_out),
            "compared": len(held_out),
            "overlapping": overlapping,
            "share": pytest.approx(overlapping / len(held_out), abs=1e-6),
            "runs_in_train": pytest.approx(sum(len(own & train) for own in runs) / sum(map(len, runs)), abs=1e-6),
        }
        assert overlapping > len(held_out) / 4
        assert sum(f"{overlapping:,} of {len(held_out):,} {split} documents" in one for one in summary["warnings"]) == 1
    assert json.loads((corpus / "out/leakage.json").read_text()) == summary["leakage"]


def test_a_test_paragraph_in_a_long_page_keeps_the_page_out_for_any_number_of_workers(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.executors.base_session.WORKER_BYTES", 1)
    draw = random.Random(4)
    paragraphs = [sentence(draw, 60) for _ in range(40)]
    pages = [sentence(draw, 3000) for _ in range(20)]
    pages[11] = f"{pages[11]}\n\n{paragraphs[30].title()}!\n\n{pages[12]}"
    add_shard(corpus, pages[:9], "book")
    add_shard(corpus, paragraphs[:25], "exam", "test")
    add_shard(corpus, pages[9:15], "other")
    add_shard(corpus, paragraphs[25:35], "quiz", "test")
    add_shard(corpus, [*pages[15:], paragraphs[36]], "third")
    add_shard(corpus, paragraphs[35:], "watched", "validation")
    decontaminate = {"against": [write_benchmark("trivia", [" ".join(pages[16].split()[50:80])])]}
    fractions = {"validation_fraction": 0, "test_fraction": 0}
    summaries = [
        curate(corpus, workers, f"by{workers}", decontaminate=decontaminate, near_duplicates={}, **fractions)
        for workers in (1, 2, 3)
    ]
    assert summaries[0]["dropped"] == {"in benchmark trivia": 1, "in the test source": 1, "in the validation source": 1}
    assert "other-2" not in stays(corpus, "by1")
    assert {"exam-0", "quiz-5", "watched-1", "third-0"} <= stays(corpus, "by1")
    assert [one["share"] for one in summaries[0]["leakage"].values()] == [0, 0]
    digests = [
        {path: digest_file(folder / path) for path in list_files(folder)}
        for folder in (corpus / "by1", corpus / "by2", corpus / "by3")
    ]
    assert digests[0] == digests[1] == digests[2]
