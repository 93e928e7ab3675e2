"""The names on record are those of the installed libraries. After an update of one record them anew:

.venv/bin/python -m pytest tests/test_known_names.py --record-digests
"""

from __future__ import annotations

import json

import pytest

from pipeline import known_names
from pipeline.known_names import ASK, RECORD, installed, is_known, told


def test_the_record_is_current(request: pytest.FixtureRequest) -> None:
    now = {kind: {"version": installed(kind), "names": [*told(kind)]} for kind in ASK}
    if request.config.getoption("--record-digests"):
        RECORD.write_text(json.dumps(now, indent=1) + "\n")
    assert json.loads(RECORD.read_text()) == now, "record the names anew; this file says how"
    assert "AdamW" in now["torch.optim"]["names"]
    assert "llama" in now["causal_lm"]["names"]
    assert "bert" in now["sequence_classification"]["names"]
    assert "lora" in now["adapters"]["names"]


def test_another_version_is_asked_before_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"torch.optim": {"version": "1.0", "names": ["Old"]}}
    monkeypatch.setattr(known_names, "_record", lambda: record)
    assert is_known("torch.optim", "Old")
    assert is_known("torch.optim", "NAdam")
    assert not is_known("torch.optim", "Nadam")
    record["torch.optim"]["version"] = installed("torch.optim")
    monkeypatch.setattr(known_names, "told", lambda kind: pytest.fail("imported the library"))
    assert not is_known("torch.optim", "NAdam")
