"""Installs Descent with its pinned dependencies into .venv. scripts/setup calls it with a Python that is new enough.

    scripts/install.py        what users need
    scripts/install.py dev    the developers' tools as well: pytest, ruff, mypy and others

Says in a line what goes on; what pip says is in .venv/install.log.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"
MARKS = {"": VENV / ".installed", "dev": VENV / ".installed-dev"}
"""What each set was installed from. Whoever has the developers' set has that of users."""

CPU_GB, CUDA_GB = 1.7, 5.8
CUDA_WHEEL_MB = 400
"""No wheel of torch for the CPU is as large, none with CUDA is smaller."""
TORCH_WHEEL = re.compile(r"\btorch-(?P<version>[\d.]+)(?P<local>(?:\+|%2B)\w+)?-\S+\.whl(?:\s+\((?P<mb>[\d.]+) MB\))?")
LARGE_DOWNLOAD = re.compile(r"^\s*Downloading (\S+\.whl \((?:\d{3,}(?:\.\d+)? MB|[\d.]+ GB)\))")
NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|Max retries exceeded"
    r"|Temporary failure in name resolution|Network is unreachable|Connection (?:refused|reset|aborted)|IncompleteRead"
)


class Stopped(Exception):
    """The installation did not come to its end; the message says why in one line."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def main(kind: str) -> None:
    """Bring .venv to the state that pyproject.toml and constraints.txt describe, if it is in another."""
    asked = os.environ.get("PYTHON")
    if asked and (has := _version()) not in ("", wanted := platform.python_version()):
        raise Stopped(f".venv holds Python {has}, PYTHON names {wanted}: remove .venv to change it", 69)
    source = "".join((ROOT / name).read_text() for name in ("pyproject.toml", "constraints.txt", "scripts/install.py"))
    covers = [MARKS["dev"]] if kind == "dev" else [*MARKS.values()]
    if any(mark.is_file() and mark.read_text() == source for mark in covers):
        return
    started = time.monotonic()
    if not _answer("-m", "pip", "--version"):
        say(f"making .venv with Python {platform.python_version()}")
        _make_venv()
    LOG.write_text("")
    for mark in MARKS.values():
        mark.unlink(missing_ok=True)
    # torch first: its CPU or CUDA build is the index's choice, and everything else accepts it.
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    say(f"installing into .venv, which takes minutes: {torch} first")
    _pip("--no-deps", torch, size=True)
    say("then everything else" + (", the developers' tools included" if kind == "dev" else ""))
    _pip("--constraint", "constraints.txt", "--editable", f".[{kind}]" if kind else ".")
    for mark in {MARKS[""], MARKS[kind]}:
        mark.write_text(source)
    say(f"done in {time.monotonic() - started:.0f} s")


def say(line: str) -> None:
    """Print a line for people on standard error."""
    print(f"scripts/setup: {line}", file=sys.stderr, flush=True)


def _answer(*arguments: str) -> str:
    """What .venv's Python prints, nothing where it is missing or cannot do that."""
    try:
        done = subprocess.run([PYTHON, *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version() -> str:
    return _answer("-c", "import platform; print(platform.python_version())")


def _make_venv() -> None:
    """Make .venv, or mend one that an interruption left without pip; where that does not help, anew."""
    said = ""
    for options in ([], ["--clear"]):
        command = [sys.executable, "-m", "venv", *options, str(VENV)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if _answer("-m", "pip", "--version"):
            return
        said = done.stdout + done.stderr
    if "ensurepip" in said:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        raise Stopped(f"{sys.executable} has no ensurepip; on Debian and Ubuntu: apt install {package}", 69)
    raise _explained(said, 1)


def _pip(*arguments: str, size: bool = False) -> None:
    """Let pip install, show its large downloads as they begin and, where asked, what all will take with this torch."""
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command = [str(PYTHON), "-m", "pip", "install", *options, *arguments]
    with LOG.open("a") as log:
        pip = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert pip.stdout is not None
        try:
            for line in pip.stdout:
                log.write(line)
                if size and (needs := space(line)):
                    say(needs)
                    size = False
                if line.startswith("Installing collected packages: "):
                    count = line.count(",") + 1
                    say(f"writing {count} package{'s' * (count > 1)} into .venv")
                if large := LARGE_DOWNLOAD.match(line):
                    say(f"downloading {large[1]}")
            code = pip.wait()
        except BaseException:
            pip.terminate()
            pip.wait()
            raise
    if code != 0:
        raise _explained(LOG.read_text(), code)


def space(line: str) -> str | None:
    """What all will take, told from a line in which pip names the wheel of torch that it takes.

    Neither its name nor its size may tell the build: then both sizes are said.
    """
    wheel = TORCH_WHEEL.search(line)
    if wheel is None or line.rstrip().endswith(".metadata") or ".whl.metadata" in line:
        return None
    local, size = wheel["local"] or "", float(wheel["mb"] or 0)
    name = f"torch {wheel['version']}"
    if "cpu" in local or sys.platform == "darwin" or 0 < size < CUDA_WHEEL_MB:
        return f"{name} for the CPU: about {CPU_GB} GB in all"
    if size or "cu" in local:
        return f"{name} with CUDA: about {CUDA_GB} GB in all"
    return f"{name}: about {CPU_GB} GB in all, or {CUDA_GB} GB if it brings CUDA"


def _explained(said: str, code: int) -> Stopped:
    """One line for what pip or venv printed before it failed."""
    if "No space left on device" in said or "Disk quota exceeded" in said:
        free = shutil.disk_usage(ROOT).free / 1e9
        what = f"the disk is full: {CPU_GB} GB are needed, {CUDA_GB} GB where torch brings CUDA; {free:.1f} GB are free"
        return Stopped(f"{what}. Free some and run it again, to go on", 74)
    if NO_NETWORK.search(said):
        return Stopped("the package index cannot be reached; mend the network and run it again, to go on", 69)
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.lower().startswith("error")]
    reason = errors[0] if errors else f"exit code {code}"
    version = platform.python_version()
    return Stopped(f"{reason} (Python {version}; 3.11 to 3.14 are known to work); {LOG} has all that was said", code)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["dev"]):
        sys.exit("scripts/setup: usage: scripts/setup [dev]")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        main(*sys.argv[1:] or [""])
    except Stopped as stopped:
        say(str(stopped))
        sys.exit(stopped.code)
    except KeyboardInterrupt:
        say("interrupted; run it again, to go on")
        sys.exit(130)
    except OSError as error:
        say(f"{error.filename or ROOT}: {error.strerror}; mend it and run it again, to go on")
        sys.exit(74)
