"""Drop documents that have words of a list."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from pydantic import Field

from pipeline.corpus.filters.base_text_filter import TextFilter
from pipeline.corpus.list_files import file_of_key, read_lines


class BlockList(TextFilter, type="block_list"):
    """Drop documents with more than `max_count` words or phrases of a list, in whatever case they are written."""

    words: Path
    """File with a word or phrase a line; blank lines do not count."""

    max_count: int = Field(default=0, ge=0)
    """How many a document may have, repeats counted."""

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The list."""
        return file_of_key(self.words, "block_list", "words")

    def check(self) -> None:
        """Raises BadDataError for a list that is not UTF-8."""
        read_lines(self.words)

    def reason_of(self, text: str) -> str | None:
        if self.listed is None:
            return None
        found = self.listed.finditer(text.casefold())
        return "words of block_list" if all(next(found, None) for _ in range(self.max_count + 1)) else None

    @cached_property
    def listed(self) -> re.Pattern[str] | None:
        """Finds any of them where no letter or digit stands beside it; None of an empty list."""
        words = {" ".join(line.casefold().split()) for line in read_lines(self.words)}
        longest_first = sorted(words - {""}, key=lambda word: (-len(word), word))
        one_of = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in longest_first)
        return re.compile(rf"(?<!\w)(?:{one_of})(?!\w)") if one_of else None
