"""Source code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.sources.base_local_files import LocalFiles
from pipeline.corpus.wildcards import fixed_folder

SUFFIXES = {
    "c": (".c", ".h"),
    "c++": (".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx"),
    "c#": (".cs",),
    "css": (".css", ".scss"),
    "cuda": (".cu", ".cuh"),
    "fortran": (".f", ".f90", ".f95", ".for"),
    "go": (".go",),
    "haskell": (".hs",),
    "java": (".java",),
    "javascript": (".js", ".jsx", ".mjs", ".cjs"),
    "julia": (".jl",),
    "kotlin": (".kt", ".kts"),
    "lua": (".lua",),
    "markdown": (".md", ".markdown"),
    "ocaml": (".ml", ".mli"),
    "perl": (".pl", ".pm"),
    "php": (".php",),
    "python": (".py", ".pyi"),
    "r": (".r",),
    "restructuredtext": (".rst",),
    "ruby": (".rb",),
    "rust": (".rs",),
    "scala": (".scala",),
    "shell": (".sh", ".bash"),
    "sql": (".sql",),
    "swift": (".swift",),
    "typescript": (".ts", ".tsx"),
    "zig": (".zig",),
}
"""Endings of files by language, in small letters."""

if TYPE_CHECKING:
    Language = str
else:
    Language = Literal[tuple(SUFFIXES)]


class SourceCode(LocalFiles, type="code"):
    """Repositories of source code, of which each file is a document as it stands, from its licence on. Files that are
    binary or minified are passed over, as are hidden ones (`.git`) and folders of others' code."""

    is_text = False
    suffixes: ClassVar[tuple[str, ...]] = tuple(ending for endings in SUFFIXES.values() for ending in endings)

    languages: list[Language] | None = Field(default=None, min_length=1)
    """Languages of which files are read in folders, by the ends of their names. Null reads all that are known."""

    leave_out: list[str] = Field(
        default_factory=lambda: ["node_modules", "site-packages", "third_party", "vendor", "vendored"]
    )
    """Names of folders below those that are given, or that a wildcard matches, which hold others' code."""

    max_line_chars: int = Field(default=1000, ge=1)
    """A file with a longer line is passed over: it is minified, or data."""

    def wanted_suffixes(self) -> tuple[str, ...]:
        """Those of the languages."""
        return tuple(ending for name in self.languages or SUFFIXES for ending in SUFFIXES[name])

    def is_wanted(self, path: Path, pattern: str) -> bool:
        """Whether a file stands in no folder that is to be left out."""
        below = path.parent.parts[len(fixed_folder(Path(pattern)).parts) :]
        return not set(below) & set(self.leave_out) and not path.name.lower().endswith((".min.js", ".min.css"))

    def read_part(self, part: FilePart) -> Iterator[Document | Rejected]:
        from pipeline.corpus.readers.code_reader import read_code

        return read_code(self, part)
