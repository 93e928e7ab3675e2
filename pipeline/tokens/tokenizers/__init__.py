"""Tokenizers: how text becomes tokens. A new one is a file here and a line in TOKENIZERS."""

from pipeline.tokens.tokenizers.base_tokenizer import Tokenizer, TrainedTokenizer
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe
from pipeline.tokens.tokenizers.characters import Characters
from pipeline.tokens.tokenizers.pretrained import Pretrained

TOKENIZERS = (ByteLevelBpe, Characters, Pretrained)

__all__ = ["TOKENIZERS", "Tokenizer", "TrainedTokenizer"]
