"""Tokenizers as ordinary Hugging Face folders, and what the rest of the pipeline asks of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from pipeline.errors import ConfigError
from pipeline.tokens.tokenizers.base_tokenizer import EOS_TOKEN, PAD_TOKEN


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a folder that `AutoTokenizer.from_pretrained` loads; decoding changes no character."""
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOS_TOKEN, pad_token=PAD_TOKEN, clean_up_tokenization_spaces=False
    ).save_pretrained(folder)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a Hugging Face folder, set to take everything in a document for ordinary text: a literal
    `<|endoftext|>` is spelled out, never the control token. Nothing is cut off and nothing padded."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode_texts(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """The ids of each text alone, without special tokens around it. Raises ConfigError for a tokenizer that cannot
    encode one of them."""
    try:
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    except Exception as error:
        raise ConfigError(
            f"tokenizer.pretrained: it cannot encode all of the text ({error}); take a tokenizer that has bytes, or a "
            "token for what it does not know"
        ) from None


@dataclass(frozen=True)
class TokenIds:
    """The ids that the rest of the pipeline needs to know."""

    size: int
    """One more than the largest id."""
    pad_token_id: int
    eos_token_id: int


def read_vocabulary(folder: Path, tokenizer: Tokenizer) -> TokenIds:
    """The ids of a tokenizer artifact, as its tokenizer_config.json names the special tokens."""
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    ids = []
    for name in ("pad_token", "eos_token"):
        token = config[name]
        index = tokenizer.token_to_id(token["content"] if isinstance(token, dict) else token)
        assert index is not None, f"a tokenizer artifact has a {name}"
        ids.append(index)
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    return TokenIds(size, *ids)


@contextmanager
def rust_threads(num_workers: int) -> Iterator[None]:
    """Let `tokenizers` use `num_workers` threads, whatever the launcher and the user's environment say.

    Its thread pool starts at its first use and keeps that size for the life of the process.
    """
    wanted = {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": str(num_workers)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
