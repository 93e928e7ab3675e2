"""Names of optimizers, architectures and adapters that the installed libraries know: importing them takes seconds.

They are in `known_names.json`, which `tests/test_known_names.py --record-digests` writes. Where another version of a
library is installed, the library is asked before a name is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

RECORD = Path(__file__).with_suffix(".json")


def _torch_optimizers() -> Iterable[str]:
    from torch import optim

    return [name for name, kind in vars(optim).items() if isinstance(kind, type) and issubclass(kind, optim.Optimizer)]


def _causal_architectures() -> Iterable[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def _labelling_architectures() -> Iterable[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    return MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES


def _adapters() -> Iterable[str]:
    from peft import PeftType

    return [kind.value.lower() for kind in PeftType]


ASK: dict[str, tuple[str, Callable[[], Iterable[str]]]] = {
    "torch.optim": ("torch", _torch_optimizers),
    "causal_lm": ("transformers", _causal_architectures),
    "sequence_classification": ("transformers", _labelling_architectures),
    "adapters": ("peft", _adapters),
}
"""The library that knows the names of a kind, and how it is asked."""


def known_names(kind: str) -> tuple[str, ...]:
    """The names of a kind that are on record, sorted."""
    return tuple(_record()[kind]["names"])


def is_known(kind: str, name: str) -> bool:
    """Whether the library knows a name; of the version on record without importing it."""
    return name in known_names(kind) or (_record()[kind]["version"] != installed(kind) and name in told(kind))


def installed(kind: str) -> str:
    """Version of the library that knows the names of a kind, without what tells builds apart."""
    return version(ASK[kind][0]).partition("+")[0]


@cache
def told(kind: str) -> tuple[str, ...]:
    """The names that the installed library tells itself, sorted."""
    return tuple(sorted(ASK[kind][1]()))


@cache
def _record() -> dict[str, dict[str, str | list[str]]]:
    found: dict[str, dict[str, str | list[str]]] = json.loads(RECORD.read_bytes())
    return found
