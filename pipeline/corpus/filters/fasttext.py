"""Drop documents by a classifier of fastText."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from pipeline.corpus.fasttext_models import LIBRARIES, FasttextModel
from pipeline.corpus.filters.base_text_filter import TextFilter
from pipeline.corpus.list_files import file_of_key
from pipeline.errors import ConfigError


class Fasttext(TextFilter, type="fasttext"):
    """Drop documents to which a model of fastText does not give a label, such as `good`, with at least `min_score`."""

    libraries: ClassVar[tuple[str, ...]] = LIBRARIES

    path: Path
    """The model, `.bin` or `.ftz`."""

    label: str = Field(min_length=1)
    """The label that documents need, with or without `__label__`."""

    min_score: float = Field(default=0.5, ge=0, le=1)
    """Least probability of the label."""

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The model."""
        return file_of_key(self.path, "fasttext", "path")

    def check(self) -> None:
        """Raises ConfigError as `loaded`."""
        assert self.loaded is not None

    def reason_of(self, text: str) -> str | None:
        score = dict(self.loaded.predict(text, -1)).get(self.label.removeprefix("__label__"), 0.0)
        return "score of fasttext below min_score" if score < self.min_score else None

    @cached_property
    def loaded(self) -> FasttextModel:
        """Raises ConfigError when it does not know the label."""
        found = FasttextModel(self.path)
        if self.label.removeprefix("__label__") not in found.labels:
            known = " ".join(found.labels[:20])
            raise ConfigError(f"fasttext: {self.path} does not know the label {self.label}; it knows {known}")
        return found
