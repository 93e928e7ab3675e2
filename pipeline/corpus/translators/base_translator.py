"""What translates sentences to another language and back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from pipeline.features import Feature


class Translator(Feature):
    """Two models, from the language of the text to another one and back."""

    @property
    @abstractmethod
    def model(self) -> str:
        """What the models are called, and their revisions, for the provenance of a copy."""

    @abstractmethod
    def translate(self, sentences: Sequence[str], backward: bool) -> Sequence[str | None]:
        """Each sentence in the other language, or with `backward` in that of the text. None where it is longer than
        the model takes, or where the translation did not come to an end: nothing may be cut."""

    def fault(self, sentence: str, between: str, result: str) -> str | None:
        """Why what came back for a sentence is of no use, in words that are counted. `between` is the sentence in the
        other language."""
        return None

    def check(self) -> None:
        """Raises ConfigError where a library is missing or the models are of no use. Called before the first stage."""
