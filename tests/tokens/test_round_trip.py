"""What of a text does not come back from its tokens."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokens.artifacts import PROSE, run_stage, write_split
from tokens.designs import AWKWARD, Design, designs, texts
from transformers import AutoTokenizer

from pipeline.stages.encode import STAGE as ENCODE
from pipeline.stages.tokenizer import STAGE as TOKENIZER
from pipeline.tokens.encoding import EncodeConfig
from pipeline.tokens.round_trip import RoundTrip, bag_distance, foresee_losses, is_recoverable, loss_in_words
from pipeline.tokens.tokenizer_figures import measure_tokenizer
from pipeline.tokens.tokenizer_folder import load_tokenizer
from pipeline.tokens.tokenizers import TrainedTokenizer
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe
from pipeline.tokens.tokenizers.characters import Characters
from pipeline.tokens.tokenizers.pretrained import Pretrained

UNICODE = st.characters(exclude_categories=["Cs"])


def edit_distance(one: str, other: str) -> int:
    """By Wagner and Fischer's table."""
    row = list(range(len(other) + 1))
    for i, first in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, second in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (first != second))
    return row[-1]


@settings(max_examples=60, deadline=None, derandomize=True)
@example(Design("Unigram", puts_space_first=True, keeps_space=True), ["a b", "c"])
@example(Design("BPE with byte fallback", puts_space_first=True), [" a", "a"])
@given(designs, texts)
def test_losses_are_those_of_transformers_own_round_trip(design: Design, documents: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        design.write(Path(folder))
        found = measure_tokenizer(load_tokenizer(Path(folder)), [*documents, "a"]).round_trip
        tokenizer = AutoTokenizer.from_pretrained(folder)
    losses: list[tuple[list[str], list[str]]] = [([], []), ([], [])]
    for text in [*documents, "a"]:
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        for (spaces, others), way in zip(losses, (back, back.removeprefix(" ")), strict=True):
            if text != way:
                (spaces if text == " " + way else others).append(text)
    others, all_lost, way = min((len(others), len(spaces + others), way) for way, (spaces, others) in enumerate(losses))
    assert found["documents"] == len(documents) + 1
    assert (found["lost_documents"], found["lost_first_spaces"]) == (all_lost, all_lost - others)
    assert found["decoding_adds_a_space"] == bool(way)
    assert (found["example"] is None) == is_recoverable(found) == (others == 0)
    assert (loss_in_words(found, "texts") == "") == (all_lost == 0)


@settings(max_examples=100, derandomize=True)
@given(st.text(UNICODE, max_size=8), st.text(UNICODE, max_size=8))
def test_characters_are_counted_from_below(one: str, other: str) -> None:
    assert bag_distance(one, other) <= edit_distance(one, other)
    assert (bag_distance(one, other) == 0) == (sorted(one) == sorted(other))
    assert bag_distance(one, one.swapcase()) <= max(len(one), len(one.swapcase()))


@pytest.mark.parametrize("kind", [ByteLevelBpe, Characters])
def test_tokenizers_that_are_trained_here_lose_nothing(kind: type[TrainedTokenizer]) -> None:
    tokenizer = kind(vocab_size=300).train(PROSE)
    tokenizer.encode_special_tokens = True
    found = measure_tokenizer(tokenizer, [*AWKWARD, "\ud7ff\ue000\U0010ffff"]).round_trip
    assert (found["lost_documents"], found["lost_characters"], found["example"]) == (0, 0, None)
    assert found["characters"] == sum(map(len, AWKWARD)) + 3


def measured(design: Design, documents: list[str], folder: Path) -> dict:
    design.write(folder)
    return measure_tokenizer(load_tokenizer(folder), documents).round_trip


def test_a_space_before_every_text_is_undone_and_a_lost_one_is_not(tmp_path: Path) -> None:
    spaced = Design("BPE with byte fallback", puts_space_first=True, keeps_space=True)
    found = measured(spaced, ["one text", "two"], tmp_path / "spaced")
    assert (found["lost_documents"], found["decoding_adds_a_space"]) == (0, True)
    stripped = Design("BPE with byte fallback", puts_space_first=True)
    found = measured(stripped, ["one text", "two"], tmp_path / "stripped")
    assert (found["lost_documents"], found["decoding_adds_a_space"]) == (0, False)
    for design in (spaced, stripped):
        found = measured(design, ["one text", "two", " three"], tmp_path / "three")
        assert (found["lost_documents"], found["lost_characters"]) == (1, 1), "as 'three' has the same tokens"
        assert (found["lost_first_spaces"], found["example"], is_recoverable(found)) == (1, None, True)
        words = "the tokenizer loses the space with which 1 of 3 test documents begin, and nothing else"
        assert loss_in_words(found, "test documents") == words
    found = measured(stripped, ["one text", " three", "a ▁ b"], tmp_path / "more")
    assert (found["lost_documents"], found["lost_first_spaces"], is_recoverable(found)) == (2, 1, False)
    assert found["example"] == {"text": "a ▁ b", "comes_back_as": "a   b"}


@pytest.mark.parametrize(
    ("design", "text", "back"),
    [
        (Design(normalizer="lowercase"), "In 1948 He", "in 1948 he"),
        (Design(normalizer="no accents"), "coûte", "coute"),
        (Design(normalizer="NFKC"), "\ufb01n", "fin"),
        (Design(normalizer="one space"), "a    b", "a b"),
        (Design(normalizer="no control characters"), "a\x07b", "ab"),
        (Design(normalizer="strip"), "a \n", "a"),
        (Design("BPE of letters"), "aж", "a[UNK]"),
        (Design("WordLevel"), "nowhere", "[UNK]"),
    ],
)
def test_every_kind_of_loss_is_told_with_an_example(tmp_path: Path, design: Design, text: str, back: str) -> None:
    found = measured(design, ["a", text], tmp_path)
    assert found["lost_documents"] == 1
    assert found["example"] == {"text": text, "comes_back_as": back}
    assert found["lost_characters"] == bag_distance(text, back) > 0
    words = loss_in_words(found, "test documents")
    assert words.startswith("the tokenizer loses text: 1 of 2 test documents do not come back")
    assert f"{text!r} comes back as {back!r}" in words
    assert foresee_losses(json.loads((tmp_path / "tokenizer.json").read_bytes())), "a plan tells, too"


def test_an_example_is_a_piece_around_the_difference() -> None:
    trip = RoundTrip()
    trip.add(["x" * 100 + "A" + "y" * 100], ["x" * 100 + "a" + "y" * 100])
    piece = trip.summary()["example"]
    assert piece == {"text": "x" * 12 + "A" + "y" * 27, "comes_back_as": "x" * 12 + "a" + "y" * 27}


def test_nothing_is_foretold_of_tokenizers_that_lose_nothing(tmp_path: Path) -> None:
    for kind in ("byte-level BPE", "BPE with byte fallback"):
        Design(kind, template="bos").write(tmp_path / kind)
        assert foresee_losses(json.loads((tmp_path / kind / "tokenizer.json").read_bytes())) == []


def test_stages_measure_and_warn(tmp_path: Path) -> None:
    Design(normalizer="lowercase", template="bos").write(tmp_path / "theirs")
    for split in ("curate/train", "augment/train"):
        write_split(tmp_path / split, ["a text", "Another", "third"])
    write_split(tmp_path / "curate/validation", ["nothing here"])
    write_split(tmp_path / "curate/test", ["NOW it is", "and", "Then"])
    inputs = {name: tmp_path / name for name in ("curate", "augment", "tokenizer")}
    section = Pretrained(pretrained=str(tmp_path / "theirs"))
    (foretold,) = TOKENIZER.early_warnings(section)
    assert "may lose text (normalizer Lowercase)" in foretold
    summary, _ = run_stage(TOKENIZER, section, inputs, inputs["tokenizer"])
    (warning,) = summary["warnings"]
    assert "1 of 3 sampled training documents" in warning
    summary, _ = run_stage(ENCODE, EncodeConfig(), inputs, tmp_path / "encode")
    (warning,) = summary["warnings"]
    assert "2 of 3 test documents do not come back" in warning
    assert "(at least 4 of 16 characters): 'NOW it is' comes back as 'now it is'" in warning
    encoded = json.loads((tmp_path / "encode/encode.json").read_bytes())
    assert encoded["splits"]["validation"]["round_trip"]["lost_documents"] == 0
    assert encoded["splits"]["test"]["round_trip"] == summary["round_trip"]["test"]


def test_a_plan_is_silent_where_it_knows_nothing(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("[")
    for section in (
        ByteLevelBpe(),
        Pretrained(pretrained=str(tmp_path)),
        Pretrained(pretrained="a/b", revision="0" * 40),
    ):
        assert TOKENIZER.early_warnings(section) == []
