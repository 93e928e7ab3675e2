"""The rules of C4."""

from __future__ import annotations

import re

from pydantic import Field

from pipeline.corpus.filters.base_editing_filter import EditingFilter

_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_SENTENCE_ENDS = (".", "?", "!", '"', "'")
_ENDS_OF_SENTENCES = re.compile(r"""[.?!]+["'\u201d\u2019)\]]*(?=\s|$)""")
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


class C4Quality(EditingFilter, type="c4_quality"):
    """Drop lines and documents by the rules of C4 (Raffel et al. 2020), which are made for English pages.

    Lines go that do not end like a sentence, are short, or speak of JavaScript or cookies; then documents with few
    sentences, with "lorem ipsum" or a curly bracket. White space around lines and blank lines go.
    """

    min_sentences: int = Field(default=5, ge=0)
    """Fewest sentences of the lines that stay. A sentence ends with `.`, `?` or `!` before white space."""

    min_words_per_line: int = Field(default=3, ge=0)
    """Fewest words of a line. Words are runs of characters between white space."""

    max_word_length: int = Field(default=1000, ge=1)
    """Most characters of a word; a line with a longer one goes."""

    need_sentence_end: bool = True
    """Whether lines go that do not end with `.`, `?`, `!` or a quotation mark, or end with `...`."""

    drop_citations: bool = True
    """Whether `[1]`, `[edit]` and `[citation needed]` are taken out of lines."""

    drop_javascript: bool = True
    """Whether lines with "javascript" go."""

    drop_policies: bool = True
    """Whether lines about cookies, privacy and terms of use go."""

    drop_lorem_ipsum: bool = True
    """Whether documents with "lorem ipsum" go."""

    drop_curly_brackets: bool = True
    """Whether documents with a `{` go."""

    def edited(self, text: str) -> tuple[str, str | None]:
        kept: list[str] = []
        num_sentences = 0
        for line in map(str.strip, text.splitlines()):
            words = line.split()
            if any(len(word) > self.max_word_length for word in words):
                continue
            if self.drop_citations:
                line = _CITATION.sub("", line)
            if self.need_sentence_end and (not line.endswith(_SENTENCE_ENDS) or line.endswith("...")):
                continue
            if len(words) < self.min_words_per_line:
                continue
            lower = line.lower()
            if self.drop_lorem_ipsum and "lorem ipsum" in lower:
                return text, "lorem ipsum to c4_quality"
            if self.drop_javascript and "javascript" in lower:
                continue
            if self.drop_curly_brackets and "{" in line:
                return text, "curly brackets to c4_quality"
            if self.drop_policies and any(phrase in lower for phrase in _POLICIES):
                continue
            num_sentences += count_sentences(line)
            kept.append(line)
        reason = "fewer sentences than c4_quality" if num_sentences < self.min_sentences else None
        return "\n".join(kept).strip(), reason


def count_sentences(line: str) -> int:
    """How many sentences a line has; the last may lack its end."""
    return sum(1 for part in _ENDS_OF_SENTENCES.split(line) if part.strip())
