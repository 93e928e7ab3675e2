"""Augmentation changes plain words and nothing else, the same way every time."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.augment_config import AugmentConfig
from pipeline.corpus.augmentations import AUGMENTATIONS
from pipeline.corpus.augmenting import Augmenter, Budget, similarity
from pipeline.corpus.documents import Document
from pipeline.corpus.edits import apply_edits, check_edits
from pipeline.corpus.word_groups import SYNONYMS, read_lexicon
from pipeline.errors import BadDataError

TEXT = """\
However, the "quick" method   often creates a big problem:\tuse it carefully.

    start = create(big, quick)  # start often
>>> create big start
See https://example.org/start/big?quick=often or start_big, e-mail often@big.example, big2 and Start().
Isn't it 3.5% big?  Start the job (quickly), then STOP it.
"""


def augmenter(seed: int = 1, **fields: object) -> Augmenter:
    defaults = {"fraction": 1.0, "operations": [{"type": "synonym", "probability": 1.0}]}
    return Augmenter(AugmentConfig.model_validate({**defaults, **fields}), seed)


def copies(made: Augmenter, original: Document) -> list[Document]:
    """The copies of a document that stay."""
    (copies_of,) = made.copies([original])
    return [copy.document() for copy in copies_of if made.reason_to_drop(copy) is None]


def document(text: str = TEXT, **fields: object) -> Document:
    return Document("id", text, "s", "o", **fields)  # type: ignore[arg-type]


def test_only_plain_words_of_the_lexicon_change() -> None:
    (copy,) = copies(augmenter(), document())
    assert copy.text != TEXT
    words = {word for group in read_lexicon(SYNONYMS) for word in group}
    # Everything but words of the lexicon is the same, byte for byte and in the same places.
    pattern = re.compile(rf"\b(?:{'|'.join(sorted(words, key=len, reverse=True))})\b", re.IGNORECASE)
    assert pattern.sub("W", copy.text) == pattern.sub("W", TEXT)
    before, after = TEXT.splitlines(), copy.text.splitlines()
    assert after[2:5] == before[2:5]
    assert "STOP" in after[5]
    assert "Isn't it 3.5% " in after[5]


def test_capitals_are_kept() -> None:
    (copy,) = copies(augmenter(), document("However, it works. However hard it is."))
    assert re.fullmatch(r"N(evertheless|onetheless), it works\. N(evertheless|onetheless) \w+ it is\.", copy.text)


def test_provenance_says_what_was_done() -> None:
    original = document("However, it works.", label="x", changes=["normalize:fix_unicode"])
    (copy,) = copies(augmenter(), original)
    assert (copy.id, copy.parent, copy.label, copy.source, copy.origin) == ("id/a1", "id", "x", "s", "o")
    assert copy.changes == ["normalize:fix_unicode", "augment:synonym(1 edits)"]


def test_a_document_without_plain_words_gets_no_copy() -> None:
    assert copies(augmenter(), document("xyzzy 1 2 3 {start}")) == []


def test_keyboard_noise_keeps_the_words_apart() -> None:
    operations = [{"type": "keyboard", "probability": 0.5}]
    (copy,) = copies(augmenter(operations=operations), document("several ordinary words stand\nin this   little text"))
    assert copy.text != "several ordinary words stand\nin this   little text"
    assert [len(word) for word in copy.text.split()] == [7, 8, 5, 5, 2, 4, 6, 4]
    assert "\nin " in copy.text
    assert "   " in copy.text


def test_copies_depend_on_seed_document_and_copy_alone() -> None:
    section = {"copies": 3, "operations": [{"type": "synonym", "probability": 0.5}]}
    first = [copy.text for copy in copies(augmenter(**section), document())]
    random.seed(99)
    np.random.seed(99)
    other = augmenter(**section)
    copies(other, document("However, something else comes between."))
    assert [copy.text for copy in copies(other, document())] == first
    assert len(set(first)) > 1
    assert [copy.text for copy in copies(augmenter(2, **section), document())] != first


def test_the_global_generators_are_left_as_they_were() -> None:
    random.seed(5)
    np.random.seed(5)
    expected = (random.random(), np.random.random())
    random.seed(5)
    np.random.seed(5)
    copies(augmenter(), document())
    assert (random.random(), np.random.random()) == expected


# Those that need more than a text are tested by themselves.
KINDS = sorted(
    {kind.model_fields["type"].default for kind in AUGMENTATIONS}
    - {"wordnet", "ppdb", "tf_idf", "masked_lm", "back_translation", "nlpaug"}
)


@given(st.text("ab .,\n>{'Hhowever", max_size=60))
def test_probability_0_changes_nothing(text: str) -> None:
    made = augmenter(operations=[{"type": kind, "probability": 0.0} for kind in KINDS if kind != "crop"])
    ((copy,),) = made.copies([document(f"However, {text}")])
    assert (copy.text, copy.edits, made.reason_to_drop(copy)) == (f"However, {text}", [], "nothing to change")


WORDS = ["However", "often", "big", "cold", "quick", "not", "the", "receive", "house", "4%", "x=1", ">>>"]
WORDS += ["\n", "\n    ", "  "]


@pytest.mark.parametrize("operation", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_all_else_is_as_in_the_original(operation: str, data: st.DataObject) -> None:
    text = " ".join(data.draw(st.lists(st.sampled_from(WORDS), max_size=30)))
    likely = {"probability": 0.8} if operation != "crop" else {}
    made = augmenter(
        data.draw(st.integers(0, 2**32)), operations=[{"type": operation, **likely}] * 2, max_similarity=1.0
    )
    ((copy,),) = made.copies([document(text)])
    check_edits(text, copy.edits)
    assert apply_edits(text, copy.edits) == copy.text
    assert all(text[edit.start : edit.stop] != edit.text for edit in copy.edits)
    assert copy.text.count("x=1") == text.count("x=1") or operation == "crop"


def test_a_recipe_is_drawn_by_weight_for_each_copy() -> None:
    recipes = [{"weight": 3, "operations": [{"type": "synonym", "probability": 1}]},
               {"operations": [{"type": "keyboard", "probability": 1}]}]  # fmt: skip
    made = augmenter(operations=[], recipes=recipes, copies=4)
    texts = [Document(str(number), "However, it often works.", "s", "o") for number in range(250)]
    drawn = [copy.recipe for of in made.copies(texts) for copy in of]
    assert len(drawn) == 1000
    # 1000 draws with probability 0.25 have a standard deviation of 14 around 250.
    assert abs(drawn.count(1) - 250) < 60
    kinds = {(copy.recipe, *(one["type"] for one in copy.operations)) for of in made.copies(texts) for copy in of}
    assert kinds == {(0, "synonym"), (1, "keyboard")}


def test_similarity_is_that_of_pairs_of_words() -> None:
    assert similarity("a b c d", "a b c  e") == 2 / 4
    assert similarity("one", "two") == 0
    assert similarity("", " ") == similarity("a", "a") == 1


def test_copies_too_much_or_too_little_like_the_original_are_dropped() -> None:
    text = "However, " + " ".join(f"w{n}" for n in range(99))
    for limits, reason in (
        ({"max_similarity": 0.9}, "more like the original than max_similarity"),
        ({"min_similarity": 0.99, "max_similarity": 1.0}, "less like the original than min_similarity"),
        ({}, None),
    ):
        made = augmenter(**limits)
        ((copy,),) = made.copies([document(text)])
        assert copy.similarity == 98 / 100  # one pair of 99 is another one
        assert made.reason_to_drop(copy) == reason


def test_the_budget_of_copies_is_exact() -> None:
    budget = Budget(0.5)
    written = 0
    for number in range(1, 101):
        budget.add_original(10)
        written += sum(budget.has_room(7) for _ in range(2))
        assert 7 * written <= 5 * number < 7 * (written + 1)
    assert all(Budget(None).has_room(10**9) for _ in range(3))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"recipes": [{"operations": [{"type": "synonym"}]}]}, "two ways to say the same"),
        ({"operations": []}, "there is nothing to do"),
        ({"min_similarity": 0.99}, "min_similarity is above max_similarity"),
    ],
)
def test_settings_that_contradict_each_other(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        augmenter(**fields)


def test_edits_of_own_code_that_overlap_are_told(tmp_path: Path) -> None:
    code = "from pipeline.corpus.augmentations import Augmentation, Edit\nclass Own(Augmentation):\n"
    (tmp_path / "own.py").write_text(
        f"{code}    def edits(self, text, draw): return [Edit(0, 5, 'x'), Edit(4, 6, 'y')]\n"
    )
    made = augmenter(operations=[{"type": f"{tmp_path}/own.py:Own"}])
    with pytest.raises(BadDataError, match=r"own\.py:Own on document id: the edit of characters 4 to 6 lies outside"):
        made.copies([document()])


def test_own_code_of_before_is_told_what_to_write(tmp_path: Path) -> None:
    code = "from pipeline.corpus.augmentations import Augmentation\nclass Own(Augmentation):\n"
    (tmp_path / "own.py").write_text(f"{code}    def alter(self, text, seed): return text, 0\n")
    with pytest.raises(ValueError, match=r"own\.py:2 .*Own\.alter\(text, seed\) is edits\(text, draw\) now"):
        augmenter(operations=[{"type": f"{tmp_path}/own.py:Own"}])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("big, large\nsmall\n", r":2: a group needs two words"),
        ("big, large\nhuge, big\n", r":2: 'big' stands in line 1 already"),
        ("big, very large\n", r":1: 'very large' is not one word"),
        ("Big, large\n", r":1: 'Big' is not one word"),
    ],
)
def test_mistakes_in_a_lexicon_are_named(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(content)
    with pytest.raises(BadDataError, match=problem):
        read_lexicon(path)


def test_a_lexicon_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_bytes(b"big, l\xffrge\n")
    with pytest.raises(BadDataError, match=r"lexicon\.txt: not UTF-8 at byte 6"):
        read_lexicon(tmp_path / "lexicon.txt")


def test_the_shipped_lexicon_is_read() -> None:
    assert len(read_lexicon(SYNONYMS)) > 300


@pytest.mark.parametrize("text", ["However, it works.", "However, it often works. " * 200])
@pytest.mark.parametrize("operation", ["synonym", "keyboard"])
def test_the_chance_of_a_word_does_not_depend_on_the_length_of_the_text(text: str, operation: str) -> None:
    made = augmenter(operations=[{"type": operation, "probability": 0.2}])
    eligible = len(re.findall("However|often" if operation == "synonym" else "However|often|works", text))
    num_documents = 4000 // eligible
    changed = 0
    for number in range(num_documents):
        for copy in copies(made, Document(str(number), text, "s", "o")):
            changed += sum(a != b for a, b in zip(text.split(), copy.text.split(), strict=True))
    # 4000 draws with probability 0.2 have a standard deviation of 0.006 around it.
    assert changed / (num_documents * eligible) == pytest.approx(0.2, abs=0.025)
