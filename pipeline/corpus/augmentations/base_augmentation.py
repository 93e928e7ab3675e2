"""What every augmentation has."""

from __future__ import annotations

from abc import abstractmethod

from pipeline.features import Feature


class Augmentation(Feature):
    """One thing done to the altered copy of a document."""

    @abstractmethod
    def alter(self, text: str, seed: int) -> tuple[str, int]:
        """The altered text, and how many words were changed. Depends on nothing but the two arguments."""
