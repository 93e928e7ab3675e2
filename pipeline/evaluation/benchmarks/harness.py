"""Tasks of lm-evaluation-harness."""

from __future__ import annotations

import functools
import io
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.console.terminal_text import did_you_mean
from pipeline.errors import ConfigError, MissingInputError
from pipeline.evaluation.benchmarks.base_benchmark import Benchmark, Exported, Score, Scores
from pipeline.progress import Progress

BOOTSTRAPS = 1000
"""Samples drawn for the standard error of a figure that is no mean."""

SHARES = ("acc", "acc_norm", "acc_bytes", "exact_match")
"""Metrics of a multiple choice whose expectation a guesser's share is."""


class Harness(Benchmark, type="harness"):
    """Tasks of lm-evaluation-harness, by name or from task files of your own. It needs pip install
    'descent-pipeline[harness]'. Its tasks fetch their data from the Hub, unless their files name local data; what they
    fetch is in no key."""

    include_path: Path | None = None
    """A folder of task files of your own (YAML). All files in it enter the key; code in them runs."""

    num_fewshot: int | None = Field(default=None, ge=0)
    """Solved examples before each question. Null leaves it to the task."""

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The file that says which version is installed, and those of the folder."""
        try:
            version = [
                Path(str(file.locate())) for file in distribution("lm_eval").files or () if file.name == "METADATA"
            ]
        except PackageNotFoundError:
            raise ConfigError(
                "evaluate.benchmarks: harness needs lm-evaluation-harness; pip install 'descent-pipeline[harness]'"
            ) from None
        files: dict[str, Sequence[Path]] = {"lm_eval": version}
        if self.include_path is not None:
            if not self.include_path.is_dir():
                raise MissingInputError(f"evaluate.benchmarks: there is no folder {self.include_path}; mend the path")
            own = (path for path in self.include_path.rglob("*") if path.is_file() and path.suffix != ".pyc")
            files[f"benchmarks {self.include_path}"] = sorted(own)
        return files

    def check(self) -> None:
        """Raises ConfigError for a task that neither the folder nor the package has."""
        known = self._manager().task_index
        for task in self.tasks:
            if task not in known:
                near = did_you_mean(task, known, otherwise="; `lm-eval ls tasks` lists those of the package")
                raise ConfigError(f"evaluate.benchmarks: {task} is no task of lm-evaluation-harness{near}")

    def _manager(self) -> Any:
        """The index of the folder alone where it has all tasks: that of the package is made of 15,000 files, in 20
        seconds of processor time."""
        if self.include_path is not None and {*self.tasks} <= {*_index(self.include_path, False).all_subtasks}:
            return _index(self.include_path, False)
        return _index(self.include_path, True)

    def scores(self, exported: Exported, progress: Progress) -> Scores:
        """Process 0 works alone, unless each process has a part of the model: then all do the same.

        Raises ConfigError where a task fails: its data cannot be had, or its code fails.
        """
        from pipeline.modeling.sharding import is_sharded

        processes, scores, warnings = exported.trained.processes, [], []
        with processes.waiting_for_main():
            if processes.is_main or is_sharded(exported.trained.model):
                with progress.bar("benchmarks of lm_eval", total=len(self.tasks), unit="tasks") as bar:
                    for task in self.tasks:
                        found, remarks = self._of_task(task, exported)
                        scores += found
                        warnings += remarks
                        bar.update(note=task)
        return Scores(scores, warnings)

    def _of_task(self, task: str, exported: Exported) -> tuple[list[Score], list[str]]:
        import torch
        from lm_eval import evaluator
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoTokenizer

        from pipeline.modeling.inputs import evaluating, replaced
        from pipeline.modeling.library_messages import config_errors, without_warnings

        model, device, manager = exported.trained.model, exported.trained.device, self._manager()
        with (
            config_errors(f"evaluate.benchmarks: {task} fails"),
            evaluating(model),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            without_warnings(),
            # It would ask git and pip about this machine.
            replaced(evaluator, "add_env_info", lambda results: None),
            replaced(evaluator, "get_git_commit_hash", lambda: None),
            _quiet(),
        ):
            adapted = HFLM(
                pretrained=model,
                backend="causal",
                tokenizer=AutoTokenizer.from_pretrained(exported.folder, local_files_only=True),
                max_length=exported.max_length,
                batch_size=exported.batch_size,
            )
            found = evaluator.simple_evaluate(
                adapted,
                tasks=[task],
                task_manager=manager,
                num_fewshot=self.num_fewshot,
                limit=self.limit,
                log_samples=False,
                bootstrap_iters=BOOTSTRAPS,
            )
            return _read(found, manager.loaded["tasks"]) if found is not None else ([], [])


@functools.cache
def _index(include_path: Path | None, include_defaults: bool) -> Any:
    """A TaskManager of the tasks of a folder and of the package. `loaded` is what it loaded last."""
    from lm_eval.tasks import TaskManager

    class Remembering(TaskManager):  # type: ignore[misc]
        loaded: Any = None

        def load(self, task_list: Any) -> Any:
            self.loaded = super().load(task_list)
            return self.loaded

    with _quiet():
        return Remembering(include_path=include_path, include_defaults=include_defaults)


def _read(found: Mapping[str, Any], tasks: Mapping[str, Any]) -> tuple[list[Score], list[str]]:
    """Scores of tasks and groups, and of which figures there are none, from the results of lm-evaluation-harness. Its
    keys are `metric,filter` and `metric_stderr,filter`."""
    scores, warnings = [], []
    for name, figures in found["results"].items():
        chance = _chance(tasks.get(name))
        for key, value in figures.items():
            metric, comma, kind = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            label = metric if kind == "none" else f"{metric} ({kind})"
            if not _is_finite(value):
                warnings.append(f"benchmark {name}: {label} has no finite figure")
                continue
            error = figures.get(f"{metric}_stderr,{kind}")
            is_higher = found["higher_is_better"].get(name, {}).get(metric)
            scores.append(
                Score(
                    task=name,
                    metric=label,
                    value=float(value),
                    documents=int(figures["sample_len"]),
                    standard_error=float(error) if _is_finite(error) else None,
                    chance=chance if metric in SHARES else None,
                    better={True: "higher", False: "lower"}.get(is_higher, ""),
                )
            )
    return scores, warnings


def _chance(task: Any) -> float | None:
    """The share that a guesser gets right of a multiple choice with one right answer; None of anything else."""
    if task is None or task.OUTPUT_TYPE != "multiple_choice" or getattr(task, "multiple_target", 1):
        return None
    if callable(task.config.process_results):  # scored by code of its own
        return None
    documents = {instance.doc_id: instance.doc for instance in task.instances}
    return sum(1 / len(task.doc_to_choice(document)) for document in documents.values()) / len(documents)


def _is_finite(value: Any) -> bool:
    """Where there is no standard error, lm-evaluation-harness writes "N/A"."""
    return isinstance(value, (int, float)) and math.isfinite(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's bars and log off the terminal, and let it start no processes of its own."""
    logger, before = logging.getLogger("lm_eval"), os.environ.get("DISABLE_MULTIPROC")
    level = logger.level
    logger.setLevel(logging.ERROR)
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        os.environ.pop("DISABLE_MULTIPROC")
        if before is not None:
            os.environ["DISABLE_MULTIPROC"] = before
