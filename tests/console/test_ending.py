"""How a process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FLOOD = """
import sys, threading
import torch
from torch import distributed

store = distributed.FileStore(sys.argv[1], 1)
distributed.init_process_group("gloo", store=store, rank=0, world_size=1)

def flood():
    while True:
        distributed.all_reduce(torch.ones(1), async_op=True)

threading.Thread(target=flood, daemon=True).start()
from pipeline.main import main

main(sys.argv[2:])
"""
"""A process whose threads let go of collectives' tensors at every moment, also while Python finalizes."""


@pytest.mark.parametrize(("verb", "code"), [("--version", 0), ("--nonsense", 2)])
def test_a_process_of_a_launch_ends_with_its_code_whatever_its_collectives_do(
    tmp_path: Path, verb: str, code: int
) -> None:
    launched = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", FLOOD, str(tmp_path / "store"), verb]
    ended = subprocess.run(command, env={**os.environ, **launched}, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    said = ended.stdout if code == 0 else ended.stderr
    assert said.startswith("descent")
