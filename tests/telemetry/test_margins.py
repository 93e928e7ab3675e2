"""Healthy trainings stay away from the thresholds of the rules, by the margins of `telemetry/margins.py`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from telemetry.test_rules import FACTS, losses

from pipeline.telemetry.facts import DataFacts, GarbageFacts, HealthFacts, OddDocument
from pipeline.telemetry.margins import MARGINS, margin, worst_shares
from pipeline.telemetry.rules import RULES
from pipeline.telemetry.rules.base_rule import above
from pipeline.telemetry.window import Window

CALIBRATION = json.loads((Path(__file__).parent / "calibration.json").read_text(encoding="utf-8"))
"""Worst shares of the shipped configurations, small, over three seeds: written by `scripts/calibrate_health.py RUN...
--record`, from the runs of tests/end_to_end/test_shipped_health.py."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.what)
def test_healthy_trainings_have_a_margin(rule):
    measured = [shares[rule.what] for shares in CALIBRATION.values() if rule.what in shares]
    for severity, wanted in MARGINS.items():
        for shares in measured:
            assert severity not in shares or margin(shares[severity]) >= wanted, (rule.what, severity)


def test_most_rules_are_calibrated():
    measured = {what for shares in CALIBRATION.values() for what in shares}
    assert len(measured) >= 15
    assert measured <= {rule.what for rule in RULES}, "of rules that are gone"


def test_what_decides_is_the_third_worst_of_five_records():
    found = worst_shares(FACTS, losses(5, 5, 5, *[8.02] * 4, *[8.05] * 9))["loss_above_guessing"]
    assert found == {"critical": pytest.approx(0.5)}, "0.05 above guessing, of 0.1"
    assert worst_shares(FACTS, losses(*[7.9] * 9))["loss_above_guessing"] == {"critical": 0.0}


def test_a_share_is_told_from_the_base():
    limits = {"warning": 0.9, "critical": 0.99}
    near = above(0.7, limits, Window(), "", base=1.0)
    assert near.shares == {"warning": pytest.approx(1 / 3), "critical": pytest.approx(1 / 30)}
    assert above(1.0, limits, Window(), "", base=1.0).shares["warning"] == float("inf")
    assert above(1.1, {"warning": 1.5}, Window(), "", base=1.0).shares == {"warning": pytest.approx(0.2)}
    assert above(-1.0, {"warning": 0.0}, Window(), "").shares == {"warning": 0.0}


def test_facts_survive_json():
    odd = OddDocument(3, 4.5, "hexadecimal digits", "00 ff")
    facts = replace(FACTS, data=DataFacts(end_share=0.1, garbage=GarbageFacts(9, 1, 0, (odd,))))
    assert HealthFacts.from_json(json.loads(json.dumps(facts.as_json()))) == facts
    assert HealthFacts.from_json({**FACTS.as_json(), "gone": 1}) == FACTS
