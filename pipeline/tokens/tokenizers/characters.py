"""Characters as tokens, by code point, and the 256 bytes for all others (as in SentencePiece's byte fallback)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.tokens.tokenizers.base_tokenizer import EOS_TOKEN, PAD_TOKEN, SMALLEST_VOCABULARY, TrainedTokenizer

if TYPE_CHECKING:
    import tokenizers


class Characters(TrainedTokenizer, type="characters"):
    """Each character is a token, and one that is not in the vocabulary is spelled as bytes. Every text can be encoded
    and comes back byte for byte."""

    def train(self, texts: Iterable[str]) -> tokenizers.Tokenizer:
        """Count, and take the most frequent."""
        from tokenizers import Tokenizer, decoders, models

        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text)
        room = self.vocab_size - SMALLEST_VOCABULARY
        frequent = [character for character, count in counts.items() if count >= self.min_frequency]
        chosen = sorted(sorted(frequent, key=lambda character: (-counts[character], character))[:room])
        tokens = [PAD_TOKEN, EOS_TOKEN, *(f"<0x{byte:02X}>" for byte in range(256)), *chosen]
        vocabulary = {token: index for index, token in enumerate(tokens)}
        # Whole documents are its words: remembering them would only take memory.
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, cache_capacity=0))
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
        tokenizer.add_special_tokens([PAD_TOKEN, EOS_TOKEN])
        return tokenizer
