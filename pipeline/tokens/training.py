"""Train a tokenizer, of byte-level BPE or of characters, and save it as an ordinary Hugging Face folder.

Byte-level BPE: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.errors import ConfigError
from pipeline.tokens.round_trip import RoundTrip
from pipeline.tokens.tokens_config import SMALLEST_VOCABULARY, TokenizerConfig

PAD_TOKEN, EOS_TOKEN = "<pad>", "<|endoftext|>"
PAD_ID, EOS_ID = 0, 1

SPLIT_PATTERNS = {
    # That of cl100k_base, GPT-4's vocabulary, as Llama 3 writes it: without possessive quantifiers.
    "gpt4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}

SAMPLE_BYTES = 8 * 2**20
"""Text on which a tokenizer is described."""


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Train on `texts`, which are read once; memory grows with the number of distinct words only.

    The same texts in the same order give the same tokenizer for any number of threads. Its vocabulary is smaller than
    `section.vocab_size` when no pair of tokens, or no character, occurs `min_frequency` times any more.
    """
    tokenizer = _train_characters(texts, config) if config.type == "characters" else _train_bpe(texts, config)
    assert (tokenizer.token_to_id(PAD_TOKEN), tokenizer.token_to_id(EOS_TOKEN)) == (PAD_ID, EOS_ID)
    return tokenizer


def _train_characters(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """One token a character, by code point, and the 256 bytes for all others (as in SentencePiece's byte fallback)."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    room = config.vocab_size - SMALLEST_VOCABULARY
    frequent = [character for character, count in counts.items() if count >= config.min_frequency]
    chosen = sorted(sorted(frequent, key=lambda character: (-counts[character], character))[:room])
    tokens = [PAD_TOKEN, EOS_TOKEN, *(f"<0x{byte:02X}>" for byte in range(256)), *chosen]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    # Whole documents are its words: remembering them would only take memory.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, cache_capacity=0))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([PAD_TOKEN, EOS_TOKEN])
    return tokenizer


def _train_bpe(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    cuts: list[pre_tokenizers.PreTokenizer] = [
        pre_tokenizers.Split(Regex(SPLIT_PATTERNS[config.split_pattern]), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    if config.split_digits:
        cuts.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[PAD_TOKEN, EOS_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    return tokenizer


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
class Vocabulary:
    """The ids that the rest of the pipeline needs to know."""

    size: int
    """One more than the largest id."""
    pad_token_id: int
    eos_token_id: int


def read_vocabulary(folder: Path, tokenizer: Tokenizer) -> Vocabulary:
    """The ids of a tokenizer artifact, as its tokenizer_config.json names the special tokens."""
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    ids = []
    for name in ("pad_token", "eos_token"):
        token = config[name]
        index = tokenizer.token_to_id(token["content"] if isinstance(token, dict) else token)
        assert index is not None, f"a tokenizer artifact has a {name}"
        ids.append(index)
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    return Vocabulary(size, *ids)


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


@dataclass
class TextSample:
    """Evenly spaced texts of a stream of unknown length, at most `limit_bytes` in all (or one text)."""

    limit_bytes: int = SAMPLE_BYTES
    texts: list[str] = field(default_factory=list)
    _size: int = 0
    _seen: int = 0
    _step: int = 1

    def watch(self, texts: Iterable[str]) -> Iterator[str]:
        """Pass `texts` through, keeping every n-th, with n doubled whenever they become too many."""
        for text in texts:
            if self._seen % self._step == 0:
                self.texts.append(text)
                self._size += len(text.encode())
                while self._size > self.limit_bytes and len(self.texts) > 1:
                    self.texts = self.texts[::2]
                    self._size = sum(len(kept.encode()) for kept in self.texts)
                    self._step *= 2
            self._seen += 1
            yield text


@dataclass(frozen=True)
class TokenizerFigures:
    """How well a tokenizer fits texts."""

    vocab_size: int
    bytes_per_token: float
    fertility: float
    """Tokens a word; words are separated by whitespace."""
    vocabulary_used: float
    """The part of the ordinary vocabulary that occurs in the texts."""
    sample_bytes: int
    round_trip: dict[str, Any]
    """What of the texts does not come back from their tokens: `RoundTrip.summary`."""

    def summary(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def describe(tokenizer: Tokenizer, texts: list[str]) -> TokenizerFigures:
    """Measure a tokenizer on texts, which must not all be empty."""
    used: set[int] = set()
    num_tokens = 0
    round_trip = RoundTrip()
    for start in range(0, len(texts), 1000):
        batch = texts[start : start + 1000]
        documents = encode_texts(tokenizer, batch)
        round_trip.add(batch, tokenizer.decode_batch(documents, skip_special_tokens=False))
        used.update(chain.from_iterable(documents))
        num_tokens += sum(map(len, documents))
    num_bytes = sum(len(text.encode()) for text in texts)
    num_words = sum(len(text.split()) for text in texts)
    return TokenizerFigures(
        vocab_size=tokenizer.get_vocab_size(),
        bytes_per_token=num_bytes / max(1, num_tokens),
        fertility=num_tokens / max(1, num_words),
        vocabulary_used=len(used) / (tokenizer.get_vocab_size() - 2),
        sample_bytes=num_bytes,
        round_trip=round_trip.summary(),
    )
