"""Carries out `python -m pipeline` in forks of a process that has imported the modules of its command line, since
imports take most of a command's time. A line of stdin asks for one: arguments, folder, and files for its streams. A
line of stdout has its exit code."""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import sys
from collections.abc import Sequence


def carry_out(arguments: Sequence[str], folder: str, out: str, err: str) -> None:
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
    os.chdir(folder)
    sys.path[0] = folder
    sys.argv = ["descent", *arguments]
    runpy.run_module("pipeline", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # as a command does that has no terminal
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.freeze()  # What no fork looks at is copied for none.
    for request in sys.stdin:
        if not (child := os.fork()):
            carry_out(*json.loads(request))
            sys.exit()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
