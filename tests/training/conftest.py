"""Inputs of a training that several modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
from training.tiny import GPT2, make_inputs


@pytest.fixture(scope="session")
def gpt2_inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """GPT-2, because its dropout makes the random state matter."""
    return make_inputs(tmp_path_factory.mktemp("inputs"), "gpt2", GPT2)
