"""Let an augmenter of nlpaug change lines of prose."""

from __future__ import annotations

import importlib
import inspect
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from pydantic import Field

from pipeline.corpus.augmentations.base_augmentation import Augmentation, Draw
from pipeline.corpus.edits import Edit
from pipeline.corpus.extras import installed_version
from pipeline.corpus.pretrained_models import one_thread
from pipeline.corpus.prose_words import layout
from pipeline.corpus.wordnet_files import nltk_files
from pipeline.errors import ConfigError, MissingInputError

WHERE = "augment.operations: nlpaug"
LEAST_WORDS = 3
_LINE = re.compile(r"\S.*")
_WORD = re.compile(r"\S+")
_PLACE = re.compile(r"\w*(?:model|path|dir)\w*|\w*_file")
_NAME = re.compile(r"(?!None\b)\w[\w./-]*")
"""What a default looks like that names a model of the hub."""

ASK_NLTK = ("word.SynonymAug", "word.AntonymAug")
NLTK_DATA = ("corpora/wordnet*", "corpora/omw-1.4*", "taggers/averaged_perceptron_tagger*")
"""What they read, as folders or packed."""
NLTK_PACKAGES = ("wordnet", "omw-1.4", "averaged_perceptron_tagger_eng")


class AnyNlpaug(Augmentation, type="nlpaug"):
    """Let an augmenter of nlpaug change each line of prose; what it changed is found by comparing words. Words are what
    stands between white space, unless its arguments say otherwise. It is given what lies between numbers, identifiers
    and the like, which stay."""

    libraries: ClassVar[tuple[str, ...]] = ("nlpaug", "nltk")

    augmenter: str = Field(pattern=r"^(char|word|sentence)\.[A-Za-z]\w*$")
    """The class, as `word.RandomWordAug` or `char.KeyboardAug`. `word.SynonymAug` and `word.AntonymAug` need nltk's
    `wordnet`, `omw-1.4` and `averaged_perceptron_tagger_eng`."""

    arguments: dict[str, Any] = Field(default_factory=dict)
    """What it is made with. Models are folders: their files enter the key, and nothing is fetched."""

    @property
    def model(self) -> str | None:
        """The folder of its model, where it has one."""
        return next((path.name for path in self._places() if path.is_dir()), None)

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """Files and folders among the arguments. Raises MissingInputError for a model or a file that is not there."""
        files = {}
        for path in self._places():
            if not path.exists():
                raise MissingInputError(f"{WHERE}: {self.augmenter}: there is no file or folder {path}; mend the path")
            files[path.as_posix()] = sorted(one for one in path.rglob("*") if one.is_file()) or [path]
        if self.augmenter in ASK_NLTK:
            files["data of nltk"] = nltk_files(NLTK_DATA)
        return files

    def facts_of_key(self) -> Mapping[str, Any]:
        """The versions of what computes a model."""
        return {name: installed_version(name) for name in ("torch", "transformers")} if self.model else {}

    def check(self) -> None:
        """Raises ConfigError where nlpaug has no such class, it cannot be made with the arguments, or lacks data."""
        self.edits("The old man walked home slowly.", Draw(0))

    def edits(self, text: str, draw: Draw) -> list[Edit]:
        """An edit for each run of words that it changed."""
        with one_thread() if self.model else nullcontext(), seeded(draw.seed):
            return [edit for start, stop in _pieces(text) for edit in self._edits_of_piece(text, start, stop)]

    def _edits_of_piece(self, text: str, start: int, stop: int) -> Iterator[Edit]:
        piece, made = text[start:stop], self._made
        try:
            with nothing_fetched():
                results = made.augment(piece)
        except Exception as error:  # of any library that it calls
            raise ConfigError(
                f"{WHERE}: {self.augmenter} with arguments {self.arguments} fails on {piece[:40]!r}: {_in_words(error)}"
            ) from None
        new = results if isinstance(results, str) else next(iter(results), piece)
        words = [(word.start() + start, word.end() + start) for word in _WORD.finditer(piece)]
        yield from edits_of_words(text, words, str(new).split())

    @cached_property
    def _made(self) -> Any:
        kind, _, name = self.augmenter.partition(".")
        module = importlib.import_module(f"nlpaug.augmenter.{kind}")
        found = getattr(module, name, None)
        if not inspect.isclass(found):
            raise ConfigError(f"{WHERE}: nlpaug.augmenter.{kind} has no class {name!r}")
        known = inspect.signature(found).parameters
        for place, parameter in known.items():
            if _is_place(place) and _NAME.fullmatch(str(parameter.default)) and place not in self.arguments:
                raise ConfigError(
                    f"{WHERE}: {self.augmenter} would fetch {parameter.default}; name a folder: "
                    f"arguments: {{{place}: FOLDER}}"
                )
        words = {"tokenizer": str.split, "reverse_tokenizer": " ".join}
        given = {name: value for name, value in words.items() if name in known} | self.arguments
        _forget_models(sys.modules[found.__module__])
        try:
            with nothing_fetched():
                made = found(**given)
        except Exception as error:  # of any library that it calls
            raise ConfigError(f"{WHERE}: {self.augmenter} cannot be made: {_in_words(error)}") from None
        _put_words_in_order(made)
        return made

    def _places(self) -> list[Path]:
        """The arguments that name a file or a folder."""
        strings = {name: value for name, value in self.arguments.items() if isinstance(value, str)}
        return [Path(value) for name, value in strings.items() if _is_place(name)]


def _is_place(name: str) -> bool:
    return _PLACE.fullmatch(name) is not None and name != "model_type"


def edits_of_words(text: str, words: Sequence[tuple[int, int]], new: Sequence[str]) -> Iterator[Edit]:
    """The edits that make other words of those at these places. White space stays but around words that go."""
    old = [text[start:stop] for start, stop in words]
    for what, first, last, new_first, new_last in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        added = " ".join(new[new_first:new_last])
        if what == "replace" and last - first == new_last - new_first:
            for place, word in zip(words[first:last], new[new_first:new_last], strict=True):
                yield Edit(*place, word)
        elif what == "replace":
            yield Edit(words[first][0], words[last - 1][1], added)
        elif what == "insert" and first < len(words):
            yield Edit(words[first][0], words[first][0], f"{added} ")
        elif what == "insert" and words:
            yield Edit(words[-1][1], words[-1][1], f" {added}")
        elif what == "delete":
            # The white space on one side goes along.
            start = words[first - 1][1] if first > 0 else words[first][0]
            stop = words[last][0] if first == 0 and last < len(words) else words[last - 1][1]
            yield Edit(start, stop, "")


def _forget_models(module: ModuleType) -> None:
    """nlpaug keeps models by their kind, whatever file they are from."""
    for name in vars(module):
        if name.endswith(("_MODEL", "_MODELS")):
            setattr(module, name, {})


def _put_words_in_order(made: Any) -> None:
    """nlpaug's lists of spelling errors are in the order of a set, which differs between processes."""
    words_of = getattr(getattr(made, "model", None), "dict", None)
    for words in words_of.values() if isinstance(words_of, dict) else ():
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            words.sort()


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Let nlpaug raise LookupError where it would have nltk fetch data."""
    import nltk

    def refuse(name: str, *args: Any, **kwargs: Any) -> None:
        raise LookupError(f"nltk has no {name}: python -m nltk.downloader {' '.join(NLTK_PACKAGES)}")

    before = nltk.download
    nltk.download = refuse
    try:
        yield
    finally:
        nltk.download = before


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators, from which nlpaug draws, begin at a seed and are put back."""
    import numpy as np

    torch = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state(), torch.get_rng_state() if torch else None
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if torch:
        torch.manual_seed(seed % 2**63)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch:
            torch.set_rng_state(states[2])


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Lines of prose, cut at what is no prose in them; then pieces of fewer than LEAST_WORDS words are left out."""
    code, kept = layout(text)
    lines_of_code = {start for start, _ in code}
    first = 0
    for line in _LINE.finditer(text):
        start, stop = line.span()
        if text.rfind("\n", 0, start) + 1 in lines_of_code:
            continue
        while first < len(kept) and kept[first][1] <= start:
            first += 1
        if first == len(kept) or kept[first][0] >= stop:
            yield start, stop
            continue
        while first < len(kept) and kept[first][0] < stop:
            yield from _long_enough(text, start, kept[first][0])
            start = kept[first][1]
            first += 1
        yield from _long_enough(text, start, stop)


def _long_enough(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    words = [word.span() for word in _WORD.finditer(text, start, stop)]
    if len(words) >= LEAST_WORDS:
        yield words[0][0], words[-1][1]


def _in_words(error: Exception) -> str:
    words = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {words or 'no words; see what the library says of these arguments'}"
