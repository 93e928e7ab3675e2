from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from exporting.trained import make_export, make_tokenizer, prose


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The exported folder of an architecture, trained when it is first asked for."""
    root = tmp_path_factory.mktemp("exports")
    texts = prose(root / "project")
    make_tokenizer(root / "tokenizer", texts)
    return cache(lambda architecture: make_export(root / architecture, architecture, texts, root / "tokenizer"))
