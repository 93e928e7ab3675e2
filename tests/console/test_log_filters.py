"""Words of libraries that people are spared."""

from __future__ import annotations

import io
import logging
import os

import pytest

from pipeline.console.log_filters import NOISE, quiet_libraries


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", NOISE)
def test_noise_is_dropped_and_other_warnings_stay(name: str, caplog: pytest.LogCaptureFixture) -> None:
    quiet_libraries()
    logging.getLogger(name).warning("%s and so on", NOISE[name])
    logging.getLogger(name).warning("weights are missing")
    assert [record.getMessage() for record in caplog.records] == ["weights are missing"]


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_bars_of_libraries_need_a_terminal(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    monkeypatch.setattr("sys.stderr", stream)
    quiet_libraries()
    assert ("HF_HUB_DISABLE_PROGRESS_BARS" in os.environ) == (not stream.isatty())
