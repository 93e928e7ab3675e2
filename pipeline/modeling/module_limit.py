"""Stop building a model once it has too many modules. Only building tells how many a configuration asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from pipeline.errors import ConfigError
from pipeline.pretrained.folder_checks import AGAIN


@contextmanager
def at_most(parts: int, where: str) -> Iterator[None]:
    """Raise ConfigError once more modules and parameters than `parts` have been made inside the block."""
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1
        if made > parts:
            raise ConfigError(f"{where}: config.json describes a model of more than {parts:,} parts; {AGAIN}")

    hooks = [register_module_module_registration_hook(count), register_module_parameter_registration_hook(count)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
