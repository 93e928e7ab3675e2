"""One name, one thing."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pipeline

SEVERAL = {"run", "main", "plan", "explain", "replay", "verify"}
"""What each stage does, where programs begin, and commands that are called like what they call."""


def test_no_file_name_stands_twice() -> None:
    names = Counter(path.name for path in Path(pipeline.__file__).parent.rglob("*.py") if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_no_class_function_or_type_stands_twice() -> None:
    names: Counter[str] = Counter()
    for path in Path(pipeline.__file__).parent.rglob("*.py"):
        for item in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(item, ast.ClassDef | ast.FunctionDef):
                names[item.name] += 1
            elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
                names[item.targets[0].id] += not item.targets[0].id.isupper()  # a type; constants are of their module
    twice = {name for name, count in names.items() if count > 1 and not name.startswith("_")}
    assert twice == SEVERAL
