"""A tokenizer as llama.cpp takes it: tokens, merges, special tokens, and the name of how text is cut before merging.

llama.cpp has its cuts in code, each under a name. A tokenizer gets the name of the cuts that it was trained with, and
none where llama.cpp has no such cuts: then its tokens would be others than those of training, in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pipeline.errors import ConfigError
from pipeline.tokens.template import Template
from pipeline.tokens.tokenizers.byte_level_bpe import SPLIT_PATTERNS

DIGITS = "each digit alone"

CUTS: dict[tuple[str, ...], str] = {
    (SPLIT_PATTERNS["gpt4"],): "smaug-bpe",
    (SPLIT_PATTERNS["gpt2"],): "gpt-2",
    (DIGITS, SPLIT_PATTERNS["gpt2"]): "starcoder",
}
"""llama.cpp's name (`tokenizer.ggml.pre`) of cuts, in the order in which they are made. It has none for digits cut
before the pattern of GPT-4: its `qwen2` cuts digits in the same pass, and leaves a space of a run before one."""

WHOLE_WORDS: dict[tuple[str, ...], str] = {(SPLIT_PATTERNS["gpt4"],): "llama-bpe"}
"""The same where a word that is a token is not merged (`ignore_merges`)."""

NO_CUTS = "default"
SPACE, LETTER_FOR_SPACE = " ", "\u2581"
"""What llama.cpp puts in the place of a space where tokens are of characters, as SentencePiece does."""

BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))


class TokenType(IntEnum):
    """What a token is to llama.cpp (`llama_token_type`)."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class GGUFVocabulary:
    """A tokenizer of byte-level BPE (llama.cpp's kind `gpt2`), or of characters and of bytes for all others (its kind
    `llama`). `cuts` is its name for them; None where only its converter may know them."""

    kind: str
    tokens: list[str]
    types: list[TokenType]
    merges: list[str]
    cuts: str | None
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int | None
    adds_bos: bool
    adds_eos: bool
    chat_template: str | None

    @classmethod
    def of(cls, folder: Path, size: int) -> GGUFVocabulary:
        """That of a Hugging Face folder, for a model with `size` embeddings. Raises ConfigError where llama.cpp has no
        such tokenizer."""
        values = json.loads((folder / "tokenizer.json").read_bytes())
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        kind = _kind(values)
        named = json.loads((folder / "tokenizer_config.json").read_bytes())
        bos, eos, pad = (_id_of(tokenizer, named.get(name)) for name in ("bos_token", "eos_token", "pad_token"))
        assert eos is not None, "an export has an eos_token"
        around = Template.of(tokenizer)
        if len(around.prefix) > 1 or around.suffix not in ((), (eos,)):
            named_so = ", ".join(str(tokenizer.id_to_token(index)) for index in (*around.prefix, *around.suffix))
            raise _no_such(f"puts {named_so} around texts, where llama.cpp has one token before and the end after")
        if tokenizer.get_vocab_size() > size:
            raise _no_such(f"has {tokenizer.get_vocab_size():,} tokens, and the model {size:,}")
        tokens, types = _tokens(values, size, kind)
        template = folder / "chat_template.jinja"
        return cls(
            kind=kind,
            tokens=tokens,
            types=types,
            merges=[pair if isinstance(pair, str) else " ".join(pair) for pair in values["model"]["merges"]],
            cuts=_cuts(values) if kind == "gpt2" else NO_CUTS,
            # Documents stand in the streams after the end of another where nothing else is before them.
            bos_token_id=around.prefix[0] if around.prefix else eos if bos is None else bos,
            eos_token_id=eos,
            pad_token_id=pad,
            adds_bos=bool(around.prefix),
            adds_eos=bool(around.suffix),
            chat_template=template.read_text(encoding="utf-8") if template.is_file() else None,
        )


def unknown_cuts() -> ConfigError:
    """The error for cuts that llama.cpp has no name for."""
    return _no_such("cuts text in a way that it has no name for")


def _no_such(what: str) -> ConfigError:
    return ConfigError(
        f"llama.cpp has no such tokenizer: this one {what}; it takes byte_level_bpe with split_pattern gpt4 or gpt2, "
        "split_digits with gpt2 alone, and characters"
    )


def _kind(values: Mapping[str, Any]) -> str:
    """llama.cpp's kind of a tokenizer. Raises ConfigError for one that it does not have."""
    model, decoder = values["model"], values.get("decoder") or {}
    if model["type"] != "BPE":
        raise _no_such(f"is of the kind {model['type']}")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise _no_such(f"has {name} {model[name]!r}")
    for added in values["added_tokens"]:
        odd = [name for name in ("single_word", "lstrip", "rstrip") if added.get(name)]
        if odd and not added.get("special"):
            raise _no_such(f"has a token {added['content']!r} with {odd[0]}")
    if decoder.get("type") == "ByteLevel" and not model.get("byte_fallback"):
        return "gpt2"
    changes_text = any(values.get(name) is not None for name in ("normalizer", "pre_tokenizer"))
    if model["merges"] or changes_text or not all(token in model["vocab"] for token in BYTES):
        raise _no_such("is BPE over characters")
    if LETTER_FOR_SPACE in model["vocab"]:
        raise _no_such(f"has a token {LETTER_FOR_SPACE}, which llama.cpp takes for a space")
    return "llama"


def _cuts(values: Mapping[str, Any]) -> str | None:
    if values.get("normalizer") is not None:
        return None
    before = values.get("pre_tokenizer") or {}
    steps = before["pretokenizers"] if before.get("type") == "Sequence" else [before]
    found: list[str] = []
    for step in steps:
        match step:
            case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
                found.append(pattern)
            case {"type": "Digits", "individual_digits": True}:
                found.append(DIGITS)
            case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(has_pattern)}:
                found += [SPLIT_PATTERNS["gpt2"]] if has_pattern else []
            case _:
                return None
    named = WHOLE_WORDS if values["model"].get("ignore_merges") else CUTS
    return named.get(tuple(found))


def _tokens(values: Mapping[str, Any], size: int, kind: str) -> tuple[list[str], list[TokenType]]:
    """Of each embedding; those that the tokenizer never gives have names of their own."""
    tokens, types = [f"[PAD{index}]" for index in range(size)], [TokenType.UNUSED] * size
    for token, index in values["model"]["vocab"].items():
        is_byte = kind == "llama" and token in BYTES
        tokens[index], types[index] = token, TokenType.BYTE if is_byte else TokenType.NORMAL
    if kind == "llama" and (space := values["model"]["vocab"].get(SPACE)) is not None:
        tokens[space] = LETTER_FOR_SPACE
    for added in values["added_tokens"]:
        given_by = TokenType.CONTROL if added.get("special") else TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], given_by
    return tokens, types


def _id_of(tokenizer: Tokenizer, token: Any) -> int | None:
    content = token["content"] if isinstance(token, dict) else token
    index: int | None = tokenizer.token_to_id(content) if content is not None else None
    return index
