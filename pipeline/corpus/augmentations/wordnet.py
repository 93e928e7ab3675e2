"""Replace words by what WordNet has in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline.corpus.augmentations.base_plain_words import LookedUpWords
from pipeline.corpus.wordnet_files import find_wordnet, open_wordnet, wordnet_files


class WordNet(LookedUpWords, type="wordnet"):
    """Replace English words by synonyms or antonyms of WordNet, in the senses that are most frequent. Words that carry
    grammar stay, as do inflected ones: WordNet would put the plain form in their place."""

    libraries: ClassVar[tuple[str, ...]] = ("nltk",)

    relation: Literal["synonym", "antonym"] = "synonym"
    """Words of the same sense, or of the opposite one, with which a copy says something else."""

    senses: int = Field(default=1, ge=1)
    """How many of a word's most frequent senses count."""

    path: Path | None = None
    """Folder of WordNet's data files. Null looks for that of nltk, then for Debian's in /usr/share/wordnet."""

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """WordNet's files. Raises MissingInputError where they are not; nothing is downloaded."""
        return {"WordNet": wordnet_files(find_wordnet(self.path))}

    def look_up(self, word: str) -> tuple[str, ...]:
        """Single words of WordNet, by `relation`."""
        if len(word) < 3:
            return ()
        lemmas = [lemma for synset in self._reader.synsets(word) for lemma in synset.lemmas() if lemma.name() == word]
        names: list[str] = []
        # The sort is stable: where counts are equal, WordNet's order decides.
        for lemma in sorted(lemmas, key=lambda lemma: -lemma.count())[: self.senses]:
            related = lemma.synset().lemmas() if self.relation == "synonym" else lemma.antonyms()
            names += [other.name() for other in related]
        return tuple(n for n in dict.fromkeys(names) if n != word and n.isascii() and n.isalpha() and n.islower())

    @cached_property
    def _reader(self) -> Any:
        return open_wordnet(find_wordnet(self.path))
