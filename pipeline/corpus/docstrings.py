"""The prose inside every Python installation: docstrings of the standard library and pydoc's topics."""

from __future__ import annotations

import ast
import platform
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

SKIPPED_FOLDERS = {
    "site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "lib-dynload", "__pycache__",
}  # fmt: skip
TOPICS = "pydoc_data/topics.py"
LABEL = f"python_docs (Python {platform.python_version()})"
MIN_REPEAT_CHARS = 80

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


def read_python_docs(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """`(qualified name, text)` of the documents in library files.

    One document for a module's own docstring, one for each top-level function, one for each top-level class together
    with what is inside it, each docstring under its qualified name, and one for each topic. Files are parsed, never
    imported.

    Docstrings are often copied from one class to another, and some topics contain others whole. So that no document
    repeats in one split what stands in another, a paragraph of MIN_REPEAT_CHARS or more that stood earlier is left
    out, and with it the document when less than half of that remains.
    """
    seen: set[str] = set()
    for path in paths:
        for name, text in _documents(path):
            kept, paragraphs = _without_repeats(text, seen)
            if 2 * len(kept) >= len(text):
                seen |= paragraphs
                yield name, kept


def _without_repeats(text: str, seen: set[str]) -> tuple[str, set[str]]:
    kept, new = [], set()
    for paragraph in text.split("\n\n"):
        folded = " ".join(paragraph.split())
        if len(folded) >= MIN_REPEAT_CHARS:
            if folded in seen:
                continue
            new.add(folded)
        kept.append(paragraph)
    return "\n\n".join(kept), new


def _documents(path: Path) -> Iterator[tuple[str, str]]:
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
    """Topics from the shortest to the longest, so that those made up of others come after them."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
            for name in sorted(topics, key=lambda name: (len(topics[name]), name)):
                yield f"topics.{name}", topics[name].strip("\n")
