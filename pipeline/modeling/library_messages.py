"""What libraries say: their errors in one line, their progress bars and warnings off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import logging

from pipeline.errors import ConfigError


@contextmanager
def config_errors(what: str, folder: Path | None = None, called: str | None = None) -> Iterator[None]:
    """Turn any exception of the block into a ConfigError: `what`, and the library's reason in a line. Architectures and
    methods raise what they like. In the reason the path of `folder` is replaced by `called`, the user's word."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        reason = one_line(error) if folder is None else one_line(error).replace(str(folder), str(called))
        raise ConfigError(f"{what}: {reason}") from None


def one_line(error: BaseException) -> str:
    """An error of a library as the end of one of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    named = re.match(r"\w+(?:Error|Exception): ", last)  # what the error was made from, and is of more use
    return last if named else f"{type(error).__name__}: {last}"


@contextmanager
def without_bars() -> Iterator[None]:
    """Turn transformers' own progress bars off in this block."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Turn transformers' warnings off in this block."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
