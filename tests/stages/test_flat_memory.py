"""The corpus stages need no more memory for a large corpus than for a small one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/benchmark_corpus.py"


def most_memory(megabytes: int) -> int:
    """Megabytes of memory at the worst moment from ingest to augment, as the script measures it."""
    command = [sys.executable, SCRIPT, "--megabytes", str(megabytes)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^ingest to augment .* ([\d,]+) MB$", printed, re.MULTILINE)
    assert found, printed
    return int(found[1].replace(",", ""))


@pytest.mark.slow
def test_six_times_as_much_text_needs_no_more_memory() -> None:
    assert 100 < most_memory(60) < 1.3 * most_memory(10)
