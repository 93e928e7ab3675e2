"""Where a word's paraphrases stand in a file of PPDB: 16 bytes of memory a line that counts."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Set
from pathlib import Path

import numpy as np

from pipeline.errors import BadDataError

_WORD = re.compile(rb"[a-z]+")
_SCORE = re.compile(rb"(?:^| )PPDB2\.0Score=(\S+)")
_NUM_FIELDS = 6
_SEPARATOR = b" ||| "


class PpdbIndex:
    """The lines of a file whose phrase and paraphrase are single words of lower-case letters, one of them in one of the
    relations to the other, with the score that is asked for. Raises BadDataError for a line of another form."""

    def __init__(self, path: Path, relations: Set[str], min_score: float) -> None:
        self._path = path
        wanted = {relation.encode() for relation in relations}
        hashes, places = array("Q"), array("q")
        place = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                fields = line.rstrip(b"\r\n").split(_SEPARATOR)
                if len(fields) != _NUM_FIELDS:
                    raise BadDataError(f"{path}:{number}: not the 6 fields of PPDB 2.0 with ||| between; decompress it")
                _, phrase, paraphrase, features, _, relation = fields
                single = _WORD.fullmatch(phrase) and _WORD.fullmatch(paraphrase) and phrase != paraphrase
                if single and relation.strip() in wanted and self._score(features, number) >= min_score:
                    hashes.append(_hash(phrase))
                    places.append(place)
                place += len(line)
        order = np.argsort(np.frombuffer(hashes, np.uint64), kind="stable")
        self._hashes = np.frombuffer(hashes, np.uint64)[order]
        self._places = np.frombuffer(places, np.int64)[order]

    def paraphrases(self, word: str) -> tuple[str, ...]:
        """The paraphrases of a word, each once, in the order of the file."""
        asked = np.uint64(_hash(word.encode()))
        first, last = (np.searchsorted(self._hashes, asked, side) for side in ("left", "right"))
        found: dict[str, None] = {}
        if first < last:
            with self._path.open("rb") as file:
                for place in self._places[first:last].tolist():
                    file.seek(place)
                    _, phrase, paraphrase, *_ = file.readline().split(_SEPARATOR)
                    if phrase.decode() == word:
                        found[paraphrase.decode()] = None
        return tuple(found)

    def _score(self, features: bytes, number: int) -> float:
        match = _SCORE.search(features)
        try:
            return float(match[1]) if match else float("-inf")
        except ValueError:
            raise BadDataError(f"{self._path}:{number}: PPDB2.0Score is no number") from None


def _hash(word: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")
