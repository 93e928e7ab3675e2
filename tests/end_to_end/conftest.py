"""What tests of whole commands share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from harness import PATIENCE_SECONDS, Project, Result


@pytest.fixture
def without_torch() -> Callable[[Project, list[str]], Result]:
    """Run a verb in a process that fails when torch, transformers or datasets was imported."""
    program = (
        "import sys\n"
        "from pipeline.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    heavy = {'torch', 'transformers', 'datasets', 'ray', 'submitit'} & set(sys.modules)\n"
        "    if heavy:\n"
        "        sys.exit(f'imported {heavy}')\n"
    )

    def run(project: Project, arguments: list[str]) -> Result:
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(
            command, cwd=project.folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run
