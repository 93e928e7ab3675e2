"""Tokenizers: how text becomes tokens. A new one is a file here and a line in TOKENIZERS."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pipeline.features import one_of
from pipeline.tokens.tokenizers.base_tokenizer import Tokenizer, TrainedTokenizer
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe
from pipeline.tokens.tokenizers.characters import Characters
from pipeline.tokens.tokenizers.pretrained import Pretrained

TOKENIZERS = (ByteLevelBpe, Characters, Pretrained)

if TYPE_CHECKING:
    AnyTokenizer = Tokenizer
else:
    AnyTokenizer = Annotated[one_of(TOKENIZERS, Tokenizer, default=ByteLevelBpe), Field(description=Tokenizer.__doc__)]

__all__ = ["TOKENIZERS", "AnyTokenizer", "Tokenizer", "TrainedTokenizer"]
