"""Standard streams that are closed, slow or interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from harness import PATIENCE_SECONDS, default_signals


def start(
    program: str, prepare: Callable[[], None] = default_signals, **options: int | None
) -> subprocess.Popen[bytes]:
    program = f"from pipeline.console.standard_streams import make_lenient, output_error; make_lenient()\n{program}"
    command = [sys.executable, "-c", program]
    return subprocess.Popen(command, preexec_fn=prepare, cwd=Path(__file__).parents[2], bufsize=0, **options)


def test_what_a_signal_handler_prints_comes_through_while_its_thread_is_printing() -> None:
    """The pipe is full, so that the signal arrives inside `print`."""
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('handled', file=sys.stderr))\n"
        "os.write(1, b'.')\n"
        "print('x' * 10**6, file=sys.stderr)\n"
    )
    process = start(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stderr.read(1)  # it is inside: a pipe holds less than it prints
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors[-500:]
    assert errors.count(b"handled\n") == 1
    assert errors.count(b"x") == 10**6 - 1


def test_a_pipe_that_does_not_block_gets_all_of_it() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = start("print('x' * 10**6)\nassert output_error() is None", stdout=writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == b"x" * 10**6 + b"\n"
    assert process.wait(PATIENCE_SECONDS) == 0


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """Else what is printed, by libraries in other languages too, would land in the next file that is opened."""

    def close_all() -> None:
        os.closerange(0, 3)

    path = tmp_path / "artifact"
    program = (
        f"import os, sys\nfile = open({str(path)!r}, 'w')\nassert file.fileno() > 2\n"
        "for number in (1, 2):\n"
        "    try: os.write(number, b'lost')\n"
        "    except OSError: file.write('refused ')\n"
        "print('lost', file=sys.stderr); print('lost')\n"
        "file.write(output_error().strerror)\n"
    )
    assert start(program, close_all).wait(PATIENCE_SECONDS) == 0
    assert path.read_text() == "refused refused Bad file descriptor"
