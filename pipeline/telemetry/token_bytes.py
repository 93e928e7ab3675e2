"""The bytes of each token of a vocabulary."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

SPACE = "\u2581"
"""What stands for a space in tokens of SentencePiece."""


def token_bytes(tokenizer_file: Path) -> list[bytes]:
    """By token id; none of special tokens, and of ids that no token has."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    described = json.loads(tokenizer_file.read_bytes())
    special = {token["id"] for token in described.get("added_tokens", []) if token["special"]}
    is_of_bytes = "ByteLevel" in json.dumps(described.get("decoder"))
    by_id = {index: token for token, index in tokenizer.get_vocab().items() if index not in special}
    count = max([*by_id, *special], default=-1) + 1
    return [_bytes(by_id.get(index, ""), is_of_bytes) for index in range(count)]


def _bytes(token: str, is_of_bytes: bool) -> bytes:
    if is_of_bytes and all(letter in _alphabet() for letter in token):
        return bytes(_alphabet()[letter] for letter in token)
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace(SPACE, " ").encode(errors="replace")


@cache
def _alphabet() -> dict[str, int]:
    """The letter of each byte in byte-level tokens, as GPT-2 has them: visible Latin-1 is itself, the other bytes are
    the letters from 256 on, in order."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + i): byte for i, byte in enumerate(others)}
