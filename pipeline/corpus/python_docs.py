"""The prose inside every Python installation: docstrings of the standard library and pydoc's topics."""

from __future__ import annotations

import ast
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SKIPPED_FOLDERS = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idle_test",
    "lib2to3",
    "lib-dynload",
    "__pycache__",
}
TOPICS = "pydoc_data/topics.py"
LABEL = f"python_docs (Python {platform.python_version()})"

_Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def library_files() -> list[Path]:
    """The standard library's Python files, tests and installed packages left out, sorted by path."""
    root = Path(sysconfig.get_path("stdlib"))
    found: list[Path] = []
    pending = [root]
    while pending:
        for entry in pending.pop().iterdir():
            if entry.name.endswith(".py"):
                found.append(entry)
            elif entry.name not in SKIPPED_FOLDERS and "." not in entry.name and entry.is_dir():
                pending.append(entry)
    return sorted(found)


def read_python_docs(path: Path) -> Iterator[tuple[str, str]]:
    """`(qualified name, text)` of a library file's documents.

    One document for the module's own docstring, one for each top-level function, and one for each top-level class
    together with what is inside it, each docstring under its qualified name. Files are parsed, never imported.
    """
    relative = path.relative_to(sysconfig.get_path("stdlib"))
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return  # The library ships a few files that are broken on purpose.
    if relative.as_posix() == TOPICS:
        yield from _topics(tree)
        return
    module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
    if own := ast.get_docstring(tree):
        yield module, f"{module}\n\n{own}"
    for node in tree.body:
        if isinstance(node, _Documented):
            sections = list(_sections(node, module))
            if sections:
                yield f"{module}.{node.name}", "\n\n".join(sections)


def _sections(node: _Documented, prefix: str) -> Iterator[str]:
    name = f"{prefix}.{node.name}"
    if text := ast.get_docstring(node):
        yield f"{name}\n\n{text}"
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            if isinstance(child, _Documented):
                yield from _sections(child, name)


def _topics(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for name, text in ast.literal_eval(node.value).items():
                yield f"topics.{name}", text
