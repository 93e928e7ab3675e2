"""A class of the user's own, by path: `./my_optimizers.py:Mine`, or `package.module:Class`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.features import file_of, load_class
from pipeline.training.optimization.optimizers.torch_class import TorchClass


class OwnClass(TorchClass):
    """A class of your own goes by its path: `./my_optimizers.py:Mine`."""

    names = ()

    def knows(self, name: str) -> bool:
        """Whether it looks like a path."""
        return ":" in name

    def why_not(self, name: str) -> str | None:
        """Its file is not there."""
        try:
            return None if not self.knows(name) or file_of(name) else "there is no such file"
        except ValueError as error:
            return str(error)

    def files_of_key(self, name: str) -> Mapping[str, list[Path]]:
        """The file that holds it."""
        return {name.rpartition(":")[0]: [file_of(name)]}

    def decoupled_decay(self, name: str, group: Mapping[str, Any]) -> float | None:
        """Not known of a class of the user's own."""
        return None

    def check(self, name: str) -> None:
        """Raises ConfigError when the class cannot be had, or is no optimizer."""
        self.find_class(name)

    def find_class(self, name: str) -> Any:
        """The class."""
        from torch.optim import Optimizer

        try:
            return load_class(name, Optimizer, "torch.optim.Optimizer")
        except ValueError as error:
            raise ConfigError(f"train.optim: {error}") from None
