"""Streams of real text, with garbage planted among its documents."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
from tokenizers import Tokenizer

from pipeline.tokens.packed_split import PackedSplit
from pipeline.tokens.packing import pack_contiguous
from pipeline.tokens.token_streams import StreamWriter
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe
from pipeline.tokens.tokenizers.characters import Characters

EOS = 1
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. " * 8  # noqa: RUF001

FRENCH = "Où êtes-vous allés cet été, à l'hôtel près du château où j'étais né ? "


def hex_dump(data: bytes) -> str:
    """As `xxd` writes it."""
    rows = (data[start : start + 16] for start in range(0, len(data), 16))
    return "\n".join(
        f"{16 * i:08x}: {row.hex(' ', 2)}  " + "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        for i, row in enumerate(rows)
    )


NOISE = np.random.default_rng(0).integers(0, 256, 1500, dtype=np.uint8).tobytes()
GARBAGE = {
    "bytes": (NOISE.decode("utf-8", "replace"), "characters that no text has"),
    "latin": (NOISE.decode("latin-1"), "characters that no text has"),
    "dump": (hex_dump(NOISE[:600]), "hexadecimal digits"),
    "digits": (NOISE[:600].hex(), "hexadecimal digits"),
    "base64": (base64.b64encode(NOISE).decode(), "characters without a space"),
    "mojibake": (FRENCH.encode().decode("cp1252", "replace") * 9, "letters of another encoding"),
    "encoding": (RUSSIAN.encode("cp1251").decode("latin-1"), "letters of another encoding"),
}  # fmt: skip
"""Texts of garbage, and what shows that each is none."""


@cache
def documents() -> tuple[str, ...]:
    """Python's own topics: prose with tables and code."""
    return tuple(text[start : start + 4000] for text in topics.values() for start in range(0, len(text), 4000))


@cache
def tokenizer(kind: str = "bytes", vocab_size: int = 512) -> Tokenizer:
    """A tokenizer of these documents."""
    if kind == "bytes":
        return ByteLevelBpe(vocab_size=vocab_size).train(documents())
    return Characters().train([*documents(), *(text for text, _ in GARBAGE.values())])


@cache
def _encoded(encoder: Tokenizer, text: str) -> list[int]:
    found: list[int] = encoder.encode(text, add_special_tokens=False).ids
    return found


def write_texts(folder: Path, split: str, texts: Sequence[str], encoder: Tokenizer, block_size: int) -> PackedSplit:
    """The encode and pack artifacts of a split of these documents."""
    ids = [[*_encoded(encoder, text), EOS] for text in texts]
    with StreamWriter(folder / "encode" / split, np.dtype("<u2"), "tokenizer") as writer:
        writer.write(np.concatenate([np.array(one) for one in ids]), np.array([len(one) for one in ids]))
    told = {"tokens": sum(map(len, ids)), "documents": len(ids), "digest": split}
    special = {"vocab_size": encoder.get_vocab_size(), "eos_token_id": EOS, "pad_token_id": 0, "dtype": "uint16"}
    special |= {"prefix_token_ids": [], "suffix_token_ids": [EOS]}
    (folder / "pack" / split).mkdir(parents=True)
    packed = pack_contiguous({**special, "splits": {split: told}}, split, block_size)
    (folder / "pack" / split / "pack.json").write_text(json.dumps(packed))
    return PackedSplit.open(folder / "pack", folder / "encode", split)
