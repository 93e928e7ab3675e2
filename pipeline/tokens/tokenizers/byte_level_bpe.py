"""Byte-pair encoding over bytes: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.tokens.tokenizers.base_tokenizer import EOS_TOKEN, PAD_TOKEN, TrainedTokenizer

if TYPE_CHECKING:
    import tokenizers

SPLIT_PATTERNS = {
    # That of cl100k_base, GPT-4's vocabulary, as Llama 3 writes it: without possessive quantifiers.
    "gpt4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}


class ByteLevelBpe(TrainedTokenizer, type="byte_level_bpe"):
    """Byte-pair encoding over UTF-8 bytes. Every text can be encoded and comes back byte for byte."""

    is_bound: ClassVar[bool] = False

    split_pattern: Literal["gpt4", "gpt2"] = "gpt4"
    """Where text is cut before merging; no token crosses a cut. `gpt4` keeps at most three digits together, line
    breaks apart from words and any one character before a word with it; `gpt2` is the older pattern."""

    split_digits: bool = False
    """Make every digit a token of its own."""

    def train(self, texts: Iterable[str]) -> tokenizers.Tokenizer:
        """Merge the most frequent pairs of tokens. Memory grows with the number of distinct words only."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

        cuts: list[pre_tokenizers.PreTokenizer] = [
            pre_tokenizers.Split(Regex(SPLIT_PATTERNS[self.split_pattern]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
        if self.split_digits:
            cuts.insert(0, pre_tokenizers.Digits(individual_digits=True))
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=[PAD_TOKEN, EOS_TOKEN],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(iter(texts), trainer)
        return tokenizer

    def why_smaller(self, num_tokens: int) -> str:
        """No other pair is frequent enough."""
        return (
            f"vocabulary of {num_tokens:,} instead of {self.vocab_size:,} tokens: no other pair occurs "
            f"{self.min_frequency} times in the training text"
        )
