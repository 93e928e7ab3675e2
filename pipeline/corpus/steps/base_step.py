"""What every normalization step has."""

from __future__ import annotations

from abc import abstractmethod

from pipeline.features import Feature


class Step(Feature):
    """One thing done to the text of every document."""

    @property
    def label(self) -> str:
        """How the step is called where a document says what changed it."""
        return self.type

    @abstractmethod
    def apply(self, text: str) -> str:
        """The text as it is to be; the same where there is nothing to do. Depends on nothing but the text."""
