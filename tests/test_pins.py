"""The pinned dependencies install on every Python that Descent says it supports."""

import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def test_every_pin_installs_on_the_oldest_python_that_is_promised():
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = promised.removeprefix(">=") + ".0"
    refused = {}
    for pin in PINS:
        try:
            needs = metadata(pin.name)["Requires-Python"]
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        if needs and not SpecifierSet(needs).contains(oldest):
            refused[str(pin)] = needs
    assert not refused, f"not installable on Python {oldest}"


def test_what_is_installed_is_what_is_pinned():
    different = {}
    for pin in PINS:
        try:
            version = metadata(pin.name)["Version"]
        except PackageNotFoundError:
            continue
        if not pin.specifier.contains(version, prereleases=True):  # torch 2.13.0+cpu is torch 2.13.0
            different[pin.name] = version
    assert not different
