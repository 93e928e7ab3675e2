"""WordNet's data files, where nltk or Debian has put them, and nltk's reader of them."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import MissingInputError

DEBIAN = Path("/usr/share/wordnet")

_PARTS = ("adj", "adv", "noun", "verb")
_NAMES = tuple(f"{kind}.{part}" for kind in ("data", "index") for part in _PARTS)
_NAMES += (*(f"{part}.exc" for part in _PARTS), "cntlist.rev")

_NUM_LEXICOGRAPHERS_FILES = 45


def find_wordnet(path: Path | None) -> Path:
    """The folder of WordNet's files: the one named, or one of nltk, or Debian's. Raises MissingInputError."""
    folders = [path] if path is not None else [*_nltk_folders(), DEBIAN]
    for folder in folders:
        if all((folder / name).is_file() for name in _NAMES):
            return folder
    where = str(path) if path is not None else f"the folders of nltk or {DEBIAN}"
    raise MissingInputError(
        f"augment.operations: {where} has no WordNet; `apt-get install wordnet-base` or nltk's downloader gets it, "
        "and `path` names its folder"
    )


def wordnet_files(folder: Path) -> list[Path]:
    """Those of the files that are read."""
    return [folder / name for name in _NAMES]


def open_wordnet(folder: Path) -> Any:
    """nltk's reader of a folder; it takes about a second and 100 MB."""
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):  # type: ignore[misc]
        """Reads English alone, and needs no file that lists the lexicographers' files: Debian has none."""

        def open(self, file: str) -> Any:
            if file == "lexnames":
                return io.StringIO("".join(f"{n:02} file{n} 1\n" for n in range(_NUM_LEXICOGRAPHERS_FILES)))
            return super().open(file)

        def map_wn(self, version: str = "wordnet") -> None:
            """Numbers of synsets in other versions, for other languages."""

    root = str(folder.resolve())
    if root not in nltk.data.path:
        nltk.data.path.append(root)  # nltk reads from no other folders
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about other languages
        return Reader(root, None)


def nltk_files(patterns: Sequence[str]) -> list[Path]:
    """The files of data of nltk, which patterns name below its folders: `corpora/wordnet*`. None where it has none."""
    found = [path for folder in _nltk_roots() for pattern in patterns for path in sorted(folder.glob(pattern))]
    return [one for path in found for one in ([path] if path.is_file() else sorted(path.rglob("*"))) if one.is_file()]


def _nltk_folders() -> list[Path]:
    return [folder / "corpora" / "wordnet" for folder in _nltk_roots()]


def _nltk_roots() -> list[Path]:
    """Where nltk looks for its data; it is not imported, which takes a second."""
    named = [Path(one) for one in os.environ.get("NLTK_DATA", "").split(os.pathsep) if one]
    beside = [Path(sys.prefix) / place for place in ("nltk_data", "share/nltk_data", "lib/nltk_data")]
    system = [Path(place) / "nltk_data" for place in ("/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib")]
    return [*named, Path.home() / "nltk_data", *beside, *system]
