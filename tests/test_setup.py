"""scripts/setup: what it installs for whom, what it says, and that it goes on after a failure.

pip is a stand-in: it notes how it was called and says and does what the test lets it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = f"""#!/bin/sh
case "$*" in
  "-m pip --version") echo pip 26 ;;
  "-m pip install"*) echo "$*" >> calls; exec sh ./pip_does ;;
  -c*) exec {sys.executable} "$@" ;;
  "-m pytest"*) ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that take part, with a .venv whose pip is a stand-in."""
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "scripts").mkdir()
    for name in ("setup", "install.py", "demo", "test"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    (tmp_path / "pip_does").write_text("exit 0")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    _program(tmp_path / ".venv/bin/python", PIP)
    _program(tmp_path / ".venv/bin/descent", "#!/bin/sh\n")
    return tmp_path


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def call(checkout: Path, script: str = "setup", *arguments: str, **environ: str) -> tuple[int, list[str]]:
    """Exit code and lines of a script."""
    done = subprocess.run(
        [checkout / "scripts" / script, *arguments],
        env={**os.environ, "PYTHON": sys.executable, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def installed(checkout: Path) -> list[str]:
    """What pip was asked to install since the last call."""
    calls = checkout / "calls"
    asked = [line.split()[-1] for line in calls.read_text().splitlines()] if calls.exists() else []
    calls.unlink(missing_ok=True)
    return asked


TORCH = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))


def test_users_get_what_they_need_and_tests_add_the_tools(checkout: Path) -> None:
    assert call(checkout, "demo")[0] == 0
    assert installed(checkout) == [TORCH, "."]
    assert call(checkout, "demo") == (0, [])
    assert call(checkout, "setup") == (0, [])
    assert installed(checkout) == []
    assert call(checkout, "test")[0] == 0
    assert installed(checkout) == [TORCH, ".[dev]"]
    assert call(checkout, "test") == (0, [])
    assert call(checkout, "demo") == (0, []), "the developers' set holds that of users"
    assert installed(checkout) == []


def test_the_tools_come_first_and_pins_change(checkout: Path) -> None:
    call(checkout, "setup", "dev")
    installed(checkout)
    assert call(checkout, "demo") == (0, [])
    with (checkout / "constraints.txt").open("a") as pins:
        pins.write("new==1\n")
    call(checkout, "demo")
    assert installed(checkout) == [TORCH, "."]
    call(checkout, "test")
    assert installed(checkout) == [TORCH, ".[dev]"]


def test_a_line_for_each_phase_and_each_large_download(checkout: Path) -> None:
    (checkout / "pip_does").write_text(
        "echo 'Collecting torch'; echo '  Downloading torch-2.13.0-cp313-cp313-manylinux_2_28_x86_64.whl (526.6 MB)'\n"
        "echo '  Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)'; echo 'Installing collected packages: six, torch'"
    )
    code, lines = call(checkout)
    assert code == 0
    assert lines[:4] == [
        f"scripts/setup: installing into .venv, which takes minutes: {TORCH} first",
        "scripts/setup: torch 2.13.0 with CUDA: about 5.8 GB in all",
        "scripts/setup: downloading torch-2.13.0-cp313-cp313-manylinux_2_28_x86_64.whl (526.6 MB)",
        "scripts/setup: writing 2 packages into .venv",
    ]
    assert "scripts/setup: then everything else" in lines
    assert lines[-1].startswith("scripts/setup: done in ")


def _install_module():
    spec = importlib.util.spec_from_file_location("install", ROOT / "scripts/install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BOTH = "torch 2.13.0: about 1.7 GB in all, or 5.8 GB if it brings CUDA"
CPU = "torch 2.13.0 for the CPU: about 1.7 GB in all"
CUDA = "torch 2.13.0 with CUDA: about 5.8 GB in all"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("  Downloading torch-2.13.0-cp313-cp313-manylinux_2_28_x86_64.whl (526.6 MB)", CUDA),
        ("  Using cached torch-2.13.0-cp314-cp314-manylinux_2_28_x86_64.whl (526.6 MB)", CUDA),
        ("  Downloading torch-2.13.0-cp313-cp313-manylinux_2_28_aarch64.whl (104.1 MB)", CPU),
        ("Processing /opt/wheels/torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", CPU),
        ("  Downloading https://x.org/whl/cpu/torch-2.13.0%2Bcpu-cp312-cp312-linux_x86_64.whl (190 MB)", CPU),
        ("  Downloading https://x.org/whl/torch-2.13.0%2Bcu130-cp312-cp312-linux_x86_64.whl (600.0 MB)", CUDA),
        ("  Processing ./torch-2.13.0+cu130-cp312-cp312-linux_x86_64.whl", CUDA),
        ("Processing /mirror/torch-2.13.0-cp313-cp313-manylinux_2_28_x86_64.whl", BOTH),
        ("  Downloading torch-2.13.0-cp313-cp313-manylinux_2_28_x86_64.whl.metadata (29 kB)", None),
        ("  Downloading https://x.org/torch-2.13.0-cp313-cp313-linux_x86_64.whl.metadata (29 kB)", None),
        ("Collecting torch==2.13.0", None),
        ("  Downloading torchvision-0.28.0-cp313-cp313-manylinux_2_28_x86_64.whl (526.6 MB)", None),
    ],
)
def test_what_all_will_take_is_told_from_torchs_wheel(
    monkeypatch: pytest.MonkeyPatch, line: str, says: str | None
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert _install_module().space(line) == says


def test_a_wheel_for_macos_has_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _install_module().space("Processing torch-2.13.0-cp313-cp313-macosx_14_0_arm64.whl") == CPU


@pytest.mark.parametrize(
    ("said", "code", "says"),
    [
        ("OSError: [Errno 28] No space left on device", 74, "the disk is full: 1.7 GB are needed, 5.8 GB where torch"),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: No matching distribution found for torch==2.13.0",
            69,
            "the package index cannot be reached; mend the network and run it again, to go on",
        ),
        (
            "pip._vendor.urllib3.exceptions.ProtocolError: ('Connection broken: IncompleteRead(1 bytes read)'",
            69,
            "the p",
        ),
        ("ERROR: Could not find a version that satisfies x==9 (from versions: 1)\nERROR: No x", 1, "Could not find a"),
        ("Killed", 1, "exit code 1 (Python "),
    ],
)
@pytest.mark.parametrize("phase", ["--no-deps", "--editable"])
def test_a_failure_is_one_line_and_the_next_call_goes_on(
    checkout: Path, phase: str, said: str, code: int, says: str
) -> None:
    (checkout / "said").write_text(said + "\n")
    (checkout / "pip_does").write_text(f"case $(tail -1 calls) in *{phase}*) cat said; exit 1 ;; esac")
    found, lines = call(checkout)
    assert found == code
    *before, last = lines
    assert last.startswith(f"scripts/setup: {says}")
    assert all(": installing into" in line or ": then" in line for line in before)
    installed(checkout)
    (checkout / "pip_does").write_text("exit 0")
    assert call(checkout)[0] == 0
    assert installed(checkout) == [TORCH, "."]
    assert call(checkout) == (0, [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_one_line_and_ends_pip(checkout: Path, number: signal.Signals) -> None:
    (checkout / "pip_does").write_text("trap 'kill $!; touch ended; exit 1' TERM; sleep 60 & touch begun; wait")
    process = subprocess.Popen(
        [checkout / "scripts/setup"],
        env={**os.environ, "PYTHON": sys.executable},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )
    while not (checkout / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "scripts/setup: interrupted; run it again, to go on"
    assert len(said.splitlines()) == 2
    assert (checkout / "ended").exists()


def test_pythons_that_cannot_serve_are_named(checkout: Path) -> None:
    _program(checkout / "old", '#!/bin/sh\ncase "$*" in --version) echo Python 3.10.13 ;; *) exit 1 ;; esac\n')
    code, lines = call(checkout, PYTHON=str(checkout / "old"))
    assert (code, len(lines)) == (69, 1)
    assert lines[0].startswith(
        f"scripts/setup: Python 3.11 or later is needed; {checkout}/old is Python 3.10.13. Set PY"
    )
    _program(checkout / ".venv/bin/python", "#!/bin/sh\necho 3.9.1\n")
    code, lines = call(checkout)
    assert (code, len(lines)) == (69, 1)
    assert ".venv holds Python 3.9.1" in lines[0]


@pytest.mark.slow
def test_an_environment_that_was_begun_or_lost_its_python_is_made_again(checkout: Path) -> None:
    python = checkout / ".venv/bin/python"
    python.unlink()
    python.symlink_to(checkout / "gone")
    empty_index = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(checkout)}
    code, lines = call(checkout, **empty_index)
    assert code == 1
    assert lines[0].startswith("scripts/setup: making .venv with Python 3.")
    assert "Could not find a version that satisfies the requirement torch==" in lines[-1]
    shutil.rmtree(next(checkout.glob(".venv/lib/python3*/site-packages/pip")))
    assert call(checkout, **empty_index)[1] == lines
