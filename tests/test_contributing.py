"""CONTRIBUTING.md names files and folders that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_path_of_the_tree_is_there() -> None:
    tree = re.findall(r"^    ( *)(\S+\.py|\S+/)  +\S", PAGE, re.MULTILINE)
    assert len(tree) > 40
    folders: list[Path] = [ROOT]
    for indent, name in tree:
        path = folders[len(indent) // 2] / name
        assert path.is_dir() if name.endswith("/") else path.is_file(), path
        folders[len(indent) // 2 + 1 :] = [path]


def test_every_package_is_in_the_tree() -> None:
    for package in (ROOT / "pipeline").glob("*/__init__.py"):
        assert re.search(rf"^      {package.parent.name}/ ", PAGE, re.MULTILINE), package


def test_every_path_in_backticks_is_there() -> None:
    """From the root, from pipeline/, or from a package of it that the text is about."""
    code = [path.as_posix() for folder in ("pipeline", "tests", "scripts") for path in (ROOT / folder).rglob("*.py")]
    for name in re.findall(r"`(?:\.venv/bin/)?([\w./-]+\.py)`", PAGE):
        assert any(path.endswith(f"/{name}") for path in code), name
    for name in re.findall(
        r"`((?:pipeline|corpus|tokens|tasks|training|evaluation|stages|tests|configs)/[\w./-]*)`", PAGE
    ):
        assert (ROOT / name).exists() or (ROOT / "pipeline" / name).exists(), name
