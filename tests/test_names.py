"""One name, one thing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pipeline


def test_no_file_name_stands_twice() -> None:
    names = Counter(path.name for path in Path(pipeline.__file__).parent.rglob("*.py") if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []
