"""What each kind of augmentation makes of a text."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

import pytest

from pipeline.corpus.augment_config import AugmentConfig
from pipeline.corpus.augmentations import AUGMENTATIONS, Augmentation, Draw
from pipeline.corpus.docstrings import library_files, read_python_docs
from pipeline.corpus.edits import apply_edits
from pipeline.corpus.nlpaug_tables import keyboard_neighbours, lookalikes, misspellings
from pipeline.corpus.word_groups import ANTONYMS, SYNONYMS, read_lexicon
from pipeline.corpus.wordnet_files import DEBIAN
from pipeline.errors import BadDataError, MissingInputError

TEXT = (
    "However, many people receive good news   in the big house.\n    x = good  # code\nIs it not good? They believe so."
)
WORDNET = Path(os.environ.get("WORDNET", DEBIAN))


def operation(kind: str, **fields: object) -> Augmentation:
    config = AugmentConfig.model_validate({"operations": [{"type": kind, **fields}]})
    return config.operations[0]


def altered(kind: str, text: str = TEXT, seed: int = 0, **fields: object) -> str:
    return apply_edits(text, operation(kind, **fields).edits(text, Draw(seed)))


def words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text)


def test_keyboard_errors_are_neighbours() -> None:
    text = "However many people receive good news"
    for before, after in zip(words(text), words(altered("keyboard", text, probability=1.0)), strict=True):
        ((right, wrong),) = [(a.lower(), b.lower()) for a, b in zip(before, after, strict=True) if a != b]
        assert wrong in keyboard_neighbours()[right]
    assert set("wdxa") <= set(keyboard_neighbours()["s"]) <= set("qweadzxc")


def test_what_scanners_take_for_another_character_looks_like_it() -> None:
    after = altered("ocr", "good", probability=1.0)
    (wrong,) = [(a, b) for a, b in zip("good", after, strict=True) if a != b]
    assert wrong[1] in lookalikes()[wrong[0]]
    assert {"0", "u"} <= set(lookalikes()["o"])
    assert altered("ocr", "may yam", probability=1.0) == "may yam"  # no letter that looks like another


def test_misspellings_are_those_of_people() -> None:
    assert "recieve" in misspellings()["receive"]
    after = altered("spelling", "They receive it.", probability=1.0).split()
    assert after[1] in misspellings()["receive"]


@pytest.mark.parametrize(
    "kept",
    [
        *("<unk>", "https://a.org/good?many=big", "good=many", "good_news", "/good/many", "`good many news`"),
        *("open(good, many)", "<a href='x' title='good many'>", "good = many", "{good: many}"),
    ],
)
def test_what_is_no_prose_in_a_sentence_stays_alone(kept: str) -> None:
    before = "However, many people receive good news in the big house they live in"
    text = f"{before} ({kept}), and {kept} it is not in many of the good ones."
    assert altered("delete", text, probability=1.0).split() == f", ({kept}), {kept}.".split()
    after = altered("keyboard", text, probability=1.0)
    assert after.count(kept) == 2
    assert not {"many", "people", "receive"} & set(after.split(kept, maxsplit=1)[0].split())


CODE = """\
>>> print("many good people")
many good people

```
many good people
```
Write this::

   many good people
   are in many houses

.. code-block:: text

   many good people

.. note::

   news
$ cat many people
def many(good, people):
import good
Table | many | good
x = many + good
"""


def test_lines_of_code_stay() -> None:
    code = [line for line in CODE.splitlines() if line not in ("Write this::", "   news")]
    after = altered("keyboard", CODE, probability=1.0).splitlines()
    assert [line for line in after if line in code] == code
    assert "Write this::" not in after
    assert "   news" not in after


def test_literal_blocks_and_prompts_of_real_documentation_stay() -> None:
    blocks = lines = changed = 0
    for _, text in islice(read_python_docs(library_files()), 1200):
        edits = operation("keyboard", probability=1.0).edits(text, Draw(0))
        touched = {text.count("\n", 0, edit.start) for edit in edits}
        changed += len(touched)
        indent = None
        for number, line in enumerate(text.split("\n")):
            depth = len(line) - len(line.lstrip())
            if line.strip() and indent is not None and depth <= indent:
                indent = None
            is_literal = indent is not None and line.strip() != ""
            if is_literal or line.lstrip().startswith(">>> "):
                lines += 1
                assert number not in touched, line
            if indent is None and line.rstrip().endswith("::") and not line.lstrip().startswith(".. "):
                indent, blocks = depth, blocks + 1
    assert blocks > 10
    assert lines > 300
    assert changed > 3000


def test_broken_words_are_whole_without_the_space() -> None:
    after = altered("split_words", probability=1.0)
    assert re.sub(r"\s", "", after) == re.sub(r"\s", "", TEXT)
    assert len(after) - len(TEXT) == len(re.findall(r"(?<!# )\b[A-Za-z]{4,}", TEXT)) - 1
    assert "    x = good  # code" in after


def test_words_change_places_with_their_neighbours() -> None:
    assert altered("swap", "One two, three four", probability=1.0) == "Two one, four three"
    assert altered("swap", "one\ntwo 3 four", probability=1.0) == "one\ntwo 3 four"


def test_words_that_are_left_out_take_one_space_along() -> None:
    assert altered("delete", "one 2 three, four", probability=1.0) == "2,"
    assert altered("delete", "3 one two.", probability=1.0) == "3."
    kept = altered("delete", "so it is that we are here and there " * 40, probability=0.5)
    assert "  " not in kept
    assert 100 < len(kept.split()) < 260


def test_words_that_are_put_in_are_synonyms_of_others() -> None:
    after = altered("insert", "xx often yy", probability=1.0)
    assert re.fullmatch(r"frequently xx frequently often frequently yy", after)
    assert altered("insert", "xx yy", probability=1.0) == "xx yy"


def test_a_crop_is_a_part_of_the_text() -> None:
    text = " ".join(f"w{number}" for number in range(100))
    lengths = set()
    for seed in range(50):
        after = altered("crop", text, seed, max_share=0.2)
        assert after in text
        assert after.split()[0] in text.split()
        lengths.add(len(after.split()))
    assert min(lengths) >= 80
    assert max(lengths) <= 99
    assert len(lengths) > 10
    assert altered("crop", "too short", max_share=0.3) == "too short"


def test_opposites_stay_away_from_negations() -> None:
    text = "A good day. It is not good. It isn't very good. The good and the bad."
    assert altered("antonym", text, probability=1.0) == (
        "A bad night. It is not good. It isn't very good. The bad and the good."
    )


def test_the_shipped_pairs_are_pairs_and_no_synonyms() -> None:
    pairs = read_lexicon(ANTONYMS)
    assert len(pairs) > 100
    assert {len(pair) for pair in pairs} == {2}
    groups = {word: group for group in read_lexicon(SYNONYMS) for word in group}
    assert all(groups.get(a) is None or groups.get(a) is not groups.get(b) for a, b in pairs)


@pytest.mark.parametrize(
    "kind",
    sorted(
        {kind.model_fields["type"].default for kind in AUGMENTATIONS}
        - {"wordnet", "ppdb", "tf_idf", "masked_lm", "back_translation", "nlpaug"}
    ),
)
def test_each_is_drawn_from_its_seed_alone(kind: str) -> None:
    fields = {} if kind == "crop" else {"probability": 0.4}
    one, other = operation(kind, **fields), operation(kind, **fields)
    first = [one.edits(TEXT * 5, Draw(seed)) for seed in range(5)]
    assert [other.edits(TEXT * 5, Draw(seed)) for seed in reversed(range(5))] == first[::-1]
    assert any(edits != first[0] for edits in first)


def test_wordnet_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"has no WordNet; `apt-get install wordnet-base`"):
        operation("wordnet", path=tmp_path).files_of_key()


@pytest.mark.skipif(not (WORDNET / "data.noun").is_file(), reason="no WordNet (Debian's wordnet-base) on this machine")
def test_words_of_wordnet_are_of_the_same_or_the_opposite_sense() -> None:
    synonym = operation("wordnet", probability=1.0, path=WORDNET)
    assert len(synonym.files_of_key()["WordNet"]) == 13
    text = "The big car was of the kind that dogs chase."
    after = apply_edits(text, synonym.edits(text, Draw(1)))
    # By WordNet 3.0: car, auto, automobile, machine, motorcar; large, big; kind, sort, form, variety.
    # Words of grammar, and the plural, stay.
    pattern = r"The large (auto|automobile|machine|motorcar) was of the (sort|form|variety) that dogs \w+\."
    assert re.fullmatch(pattern, after)
    antonym = operation("wordnet", probability=1.0, relation="antonym", path=WORDNET)
    assert apply_edits("a hot car", antonym.edits("a hot car", Draw(1))) == "a cold car"


PPDB = """\
[NN] ||| house ||| home ||| PPDB2.0Score=4.5 PPDB1.0Score=1.5 ||| 0-0 ||| Equivalence
[NN] ||| house ||| dwelling ||| PPDB2.0Score=3.25 PPDB1.0Score=4.5 ||| 0-0 ||| Equivalence
[NN] ||| house ||| building ||| PPDB2.0Score=5.0 ||| 0-0 ||| ForwardEntailment
[NN] ||| house ||| a house ||| PPDB2.0Score=5.0 ||| 0-0 ||| Equivalence
[NN] ||| the house ||| home ||| PPDB2.0Score=5.0 ||| 0-0 ||| Equivalence
[VB] ||| house ||| home ||| PPDB2.0Score=4.0 ||| 0-0 ||| Equivalence
[VB] ||| house ||| house's ||| PPDB2.0Score=4.0 ||| 0-0 ||| Equivalence
[JJ] ||| big ||| huge ||| PPDB2.0Score=3.5 ||| 0-0 ||| Equivalence
[JJ] ||| big ||| small ||| PPDB2.0Score=3.5 ||| 0-0 ||| Exclusion
[DT] ||| the ||| this ||| PPDB2.0Score=3.5 ||| 0-0 ||| Equivalence
"""


@pytest.mark.parametrize(
    ("fields", "houses", "bigs"),
    [
        ({}, {"home", "dwelling"}, {"huge"}),
        ({"min_score": 3.5}, {"home"}, {"huge"}),
        ({"relations": ["ForwardEntailment"]}, {"building"}, {"big"}),
    ],
)
def test_paraphrases_are_those_of_the_relation_and_score(
    tmp_path: Path, fields: dict[str, object], houses: set[str], bigs: set[str]
) -> None:
    (tmp_path / "ppdb").write_text(PPDB)
    made = operation("ppdb", path=tmp_path / "ppdb", probability=1.0, **fields)
    text = "See the big house. House?"
    found = [words(apply_edits(text, made.edits(text, Draw(seed)))) for seed in range(30)]
    assert {tuple(one[:2]) for one in found} == {("See", "the")}
    assert {one[2] for one in found} == bigs
    assert {one[3] for one in found} == houses
    assert {one[4] for one in found} == {house.capitalize() for house in houses}


def test_a_file_that_is_not_of_ppdb_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"PPDB file .*none does not exist; mend the path"):
        operation("ppdb", path=tmp_path / "none").files_of_key()
    for content, problem in (
        ("[NN] ||| a ||| b\n", ":1: not the 6 fields of PPDB 2"),
        (PPDB + "[X] ||| a ||| b ||| PPDB2.0Score=x ||| 0-0 ||| Equivalence\n", ":11: PPDB2.0Score is no number"),
    ):
        (tmp_path / "ppdb").write_text(content)
        with pytest.raises(BadDataError, match=problem):
            altered("ppdb", path=tmp_path / "ppdb")
