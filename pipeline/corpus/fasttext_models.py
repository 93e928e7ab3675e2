"""Models of fastText, which give a text labels with their probabilities."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError

LIBRARIES = ("fasttext-predict" if sys.version_info < (3, 14) else "fasttext-predict-v2",)
"""The distributions that compute them."""

_PREFIX = "__label__"


class FasttextModel:
    """A model in fastText's own format, `.bin` or `.ftz`, as `fasttext supervised` writes it."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError when the file holds none."""
        import fasttext

        try:
            self._model: Any = fasttext.load_model(str(path))
            self.labels = sorted(label for label, _ in self.predict("", -1))
        except (ValueError, RuntimeError, MemoryError) as error:
            raise ConfigError(
                f"{path} is no model of fastText ({' '.join(str(error).split())}); mend its path"
            ) from None

    def predict(self, text: str, num_labels: int) -> Iterator[tuple[str, float]]:
        """The most probable labels of a text, or all with -1, without the prefix `__label__`, and their probabilities.
        A line end is white space."""
        labels, scores = self._model.predict(text.replace("\n", " "), k=num_labels)
        for label, score in zip(labels, scores, strict=True):
            yield label.removeprefix(_PREFIX), min(float(score), 1.0)
