"""Libraries that only some features need: a missing one is told before the first stage, in one line."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from pipeline.errors import ConfigError


def need_extra(module: str, extra: str, where: str) -> None:
    """Raises ConfigError where a module of an extra is not installed. It is not imported."""
    if find_spec(module) is None:
        raise ConfigError(f"{where} needs the extra `{extra}`: pip install 'descent-pipeline[{extra}]'")


def installed_version(name: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
