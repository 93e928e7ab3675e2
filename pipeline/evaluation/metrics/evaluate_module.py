"""A metric of the `evaluate` library."""

from __future__ import annotations

import atexit
import functools
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pipeline.errors import ConfigError
from pipeline.evaluation.metrics.base_metric import Figure, LabelMetric

if TYPE_CHECKING:
    import evaluate
    from numpy.typing import NDArray


class EvaluateModule(LabelMetric, type="evaluate"):
    """A metric of the `evaluate` library. It is given predictions and references: numbers of classes, or numbers; of a
    language model texts, what it writes after the openings of `evaluate.samples.num_samples` test documents, and how
    those go on for `max_new_tokens` tokens."""

    measures: ClassVar = ("tokens", "classes", "numbers")

    path: str = Field(min_length=1)
    """A metric's script or its folder, or the name of one on the Hub, such as matthews_correlation."""

    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    """Commit of a metric on the Hub: the 40 digits. A metric is code that runs here."""

    config_name: str | None = None
    """The metric's own configuration, where it has several."""

    arguments: dict[str, Any] = Field(default_factory=dict)
    """What `compute` is given beside the labels, such as {average: macro}."""

    figure_name: str | None = None
    """Which of the metric's figures is taken. Null takes the only one."""

    greater_is_better: bool = True
    """Whether larger figures are better."""

    @property
    def key(self) -> str:
        """The name of the figure, or of the metric."""
        return self.figure_name or Path(self.path).stem

    @property
    def figure(self) -> Figure:
        return Figure(self.key, self.key.replace("_", " "), "real", "higher" if self.greater_is_better else "lower")

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The script, or the scripts of the folder."""
        place = Path(self.path)
        if place.exists():
            return {self.path: [place] if place.is_file() else sorted(place.glob("*.py"))}
        if self.revision is None:
            raise ConfigError(
                f"evaluate.metrics: {self.path} is no file or folder here; a metric of the Hub needs `revision`, the "
                "40 digits of a commit"
            )
        return {}

    def compute(
        self, predictions: NDArray[Any] | Sequence[str], references: NDArray[Any] | Sequence[str]
    ) -> float | None:
        """Raises ConfigError where the metric cannot be loaded, refuses what it is given, or gives no number."""
        try:
            module = _load(self.path, self.config_name, self.revision)
            found = dict(module.compute(predictions=predictions, references=references, **self.arguments))
            name = self.figure_name or (next(iter(found)) if len(found) == 1 else "")
            value = float(found[name]) if name in found else None
        except Exception as error:
            # Every metric is code of its own and raises what it likes.
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(f"evaluate.metrics: {self.path} fails: {reason}; mend it or remove it") from error
        if value is None:
            names = ", ".join(map(str, found)) or "no figure"
            raise ConfigError(f"evaluate.metrics: {self.path} gives {names}; choose one by figure_name")
        return value if math.isfinite(value) else None


@functools.cache
def _load(path: str, config_name: str | None, revision: str | None) -> evaluate.EvaluationModule:
    import evaluate

    folder = _scratch()
    with _modules_in(folder):
        return evaluate.load(path, config_name, revision=revision, cache_dir=str(folder), keep_in_memory=True)


@functools.cache
def _scratch() -> Path:
    """A temporary folder of this process for copies of scripts and data, so that a read-only home and other processes
    doing the same do not matter. One for all metrics: the scripts are modules of one package, which has one folder."""
    folder = Path(tempfile.mkdtemp(prefix="descent-metrics-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def _modules_in(folder: Path) -> Iterator[None]:
    """Make `evaluate.load`, which has no argument for it, copy the scripts that it imports into `folder`."""
    import evaluate

    before = evaluate.config.HF_MODULES_CACHE
    evaluate.config.HF_MODULES_CACHE = folder / "modules"
    try:
        yield
    finally:
        evaluate.config.HF_MODULES_CACHE = before
