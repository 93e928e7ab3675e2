"""The pinned dependencies install on every Python that Descent says it supports."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
PYTHONS = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
"""The versions that are promised, from the oldest on."""

OF_TORCH = re.compile(r"nvidia-.*|cuda-.*|triton|torch-.*")
"""What torch brings where it is built for CUDA, in versions of its own choice."""


def test_the_promised_pythons_are_those_that_are_accepted():
    accepted = SpecifierSet(PROJECT["requires-python"])
    assert PYTHONS == ["3.11", "3.12", "3.13", "3.14"]
    assert [python for python in ("3.10.99", *(f"{python}.0" for python in PYTHONS)) if python in accepted] == [
        f"{python}.0" for python in PYTHONS
    ]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_pin_installs_on_the_pythons_that_are_promised(python):
    refused = {}
    for pin in PINS:
        try:
            needs = metadata(pin.name)["Requires-Python"]
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        if needs and not SpecifierSet(needs).contains(f"{python}.0"):
            refused[str(pin)] = needs
    assert not refused, f"not installable on Python {python}"


@pytest.mark.parametrize("python", PYTHONS)
def test_all_that_is_needed_is_pinned(python):
    """Walks the requirements of what is installed here, as they are on each Python."""
    pinned = {canonicalize_name(pin.name) for pin in PINS}
    todo = [("descent-pipeline", extra) for extra in ("", "dev")]
    seen = set()
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # needed on another Python only; that it is pinned is what counts
            continue
        for requirement in map(Requirement, requires):
            marker = requirement.marker
            here = {"extra": extra, "python_version": python, "python_full_version": f"{python}.0"}
            if marker is None or marker.evaluate(here):
                needed = canonicalize_name(requirement.name)
                todo += [(needed, wanted) for wanted in ("", *requirement.extras)]
    needed = {name for name, _ in seen} - {"descent-pipeline"}
    assert len(needed) > 90
    assert sorted(name for name in needed - pinned if not OF_TORCH.fullmatch(name)) == []
