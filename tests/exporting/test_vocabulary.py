"""llama.cpp's name for a tokenizer's cuts, and tokenizers that it does not have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from exporting.trained import make_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokens.artifacts import PROSE
from transformers import PreTrainedTokenizerFast

from pipeline.errors import ConfigError
from pipeline.exporting.vocabulary import GGUFVocabulary, TokenType
from pipeline.tokens.tokenizers.characters import Characters

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
SPECIAL = ["<pad>", "<end>", "<s>"]


def save(folder: Path, model: Any = None, **parts: Any) -> Path:
    """A tokenizer of bytes, or of another model, with the given parts."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *BYTES])}
    tokenizer = Tokenizer(model or models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", clean_up_tokenization_spaces=False
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "smaug-bpe"),
        ({"split_pattern": "gpt2"}, "gpt-2"),
        ({"split_pattern": "gpt2", "split_digits": True}, "starcoder"),
    ],
)
def test_what_is_trained_here_has_a_name(tmp_path: Path, settings: dict[str, Any], name: str) -> None:
    make_tokenizer(tmp_path, tuple(PROSE), **settings)
    vocabulary = GGUFVocabulary.of(tmp_path, 700)
    assert vocabulary.cuts == name
    assert (vocabulary.bos_token_id, vocabulary.eos_token_id, vocabulary.pad_token_id) == (1, 1, 0)
    assert (vocabulary.adds_bos, vocabulary.adds_eos) == (False, False)
    assert vocabulary.types[:2] == [TokenType.CONTROL] * 2
    assert (vocabulary.tokens[-1], vocabulary.types[-1]) == ("[PAD699]", TokenType.UNUSED)


def test_digits_before_the_pattern_of_gpt4_have_none(tmp_path: Path) -> None:
    make_tokenizer(tmp_path, tuple(PROSE), split_digits=True)
    assert GGUFVocabulary.of(tmp_path, 600).cuts is None


def test_characters_are_of_another_kind(tmp_path: Path) -> None:
    make_tokenizer(tmp_path, tuple(PROSE), Characters)
    vocabulary = GGUFVocabulary.of(tmp_path, 600)
    assert (vocabulary.kind, vocabulary.cuts, vocabulary.merges) == ("llama", "default", [])
    assert vocabulary.types[:258] == [TokenType.CONTROL] * 2 + [TokenType.BYTE] * 256
    assert vocabulary.tokens[2:258] == [f"<0x{byte:02X}>" for byte in range(256)]
    assert vocabulary.types[258:270] == [TokenType.NORMAL] * 12
    assert " " not in vocabulary.tokens
    assert "\u2581" in vocabulary.tokens


def test_characters_that_llama_cpp_would_confuse_are_refused_in_one_line(tmp_path: Path) -> None:
    make_tokenizer(tmp_path, (*PROSE, "\u2581 \u2581"), Characters)
    with pytest.raises(ConfigError, match="has a token \u2581, which llama") as error:
        GGUFVocabulary.of(tmp_path, 600)
    assert "\n" not in str(error.value)


WORDS = {"<pad>": 0, "<end>": 1, "<s>": 2, "a": 3}
METASPACE = {"pre_tokenizer": pre_tokenizers.Metaspace(), "decoder": decoders.Metaspace()}


@pytest.mark.parametrize(
    ("model", "parts", "told"),
    [
        (models.WordLevel(WORDS, "<pad>"), {}, "is of the kind WordLevel"),
        (models.Unigram([(word, -1.0) for word in WORDS], 0), METASPACE, "is of the kind Unigram"),
        (models.WordPiece(WORDS, unk_token="<pad>"), {}, "is of the kind WordPiece"),
        (models.BPE(WORDS | {"aa": 4}, [("a", "a")]), METASPACE, "is BPE over characters"),
        (models.BPE(WORDS | {"aa": 4}, [("a", "a")], end_of_word_suffix="</w>"), {}, "has end_of_word_suffix '</w>'"),
    ],
)
def test_other_kinds_are_refused(tmp_path: Path, model: Any, parts: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        GGUFVocabulary.of(save(tmp_path, model, **parts), 300)


def test_more_tokens_than_embeddings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 259 tokens, and the model 258"):
        GGUFVocabulary.of(save(tmp_path), 258)


@pytest.mark.parametrize(
    ("single", "adds", "bos"),
    [("<s> $A", (True, False), 2), ("$A <end>", (False, True), 1), ("<s> $A <end>", (True, True), 2)],
)
def test_what_stands_around_texts_is_told(tmp_path: Path, single: str, adds: tuple[bool, bool], bos: int) -> None:
    around = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 2), ("<end>", 1)])
    vocabulary = GGUFVocabulary.of(save(tmp_path, post_processor=around), 300)
    assert ((vocabulary.adds_bos, vocabulary.adds_eos), vocabulary.bos_token_id) == (adds, bos)


@pytest.mark.parametrize("single", ["<s> <pad> $A", "$A <pad>", "$A <end> <pad>"])
def test_what_llama_cpp_cannot_put_around_them_is_refused(tmp_path: Path, single: str) -> None:
    around = processors.TemplateProcessing(single=single, special_tokens=[(t, i) for i, t in enumerate(SPECIAL)])
    with pytest.raises(ConfigError, match=r"puts <.*> around texts"):
        GGUFVocabulary.of(save(tmp_path, post_processor=around), 300)


def test_added_tokens_are_of_the_users_or_for_control(tmp_path: Path) -> None:
    folder = save(tmp_path)
    values = json.loads((folder / "tokenizer.json").read_text())
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    values["added_tokens"] += [{"id": 259, "content": "<tool>", "special": False, **plain}]
    (folder / "tokenizer.json").write_text(json.dumps(values))
    vocabulary = GGUFVocabulary.of(folder, 300)
    assert (vocabulary.tokens[259], vocabulary.types[259]) == ("<tool>", TokenType.USER_DEFINED)
    values["added_tokens"][-1]["lstrip"] = True
    (folder / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="has a token '<tool>' with lstrip"):
        GGUFVocabulary.of(folder, 300)


def test_a_template_of_chats_goes_along(tmp_path: Path) -> None:
    folder = save(tmp_path)
    assert GGUFVocabulary.of(folder, 300).chat_template is None
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert GGUFVocabulary.of(folder, 300).chat_template == "{{ messages }}"
