"""What libraries raise, as errors that users can mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.modeling.architecture_settings import one_line


@contextmanager
def config_errors(what: str, folder: Path | None = None, called: str | None = None) -> Iterator[None]:
    """Raise whatever is raised inside as ConfigError: `what`, and the library's reason in a line. Every architecture
    and method has checks of its own and raises what it likes. A `folder` is `called` as the user calls it."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        reason = one_line(error) if folder is None else one_line(error).replace(str(folder), str(called))
        raise ConfigError(f"{what}: {reason}") from None
