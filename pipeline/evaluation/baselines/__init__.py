"""What a language model must beat, in bits of the test documents. A new one is a file here and a line in BASELINES."""

from pipeline.evaluation.baselines.base_baseline import Coded, Texts
from pipeline.evaluation.baselines.bigram import bigram
from pipeline.evaluation.baselines.unigram import unigram
from pipeline.evaluation.baselines.xz_compression import xz

BASELINES = (unigram, bigram, xz)

__all__ = ["BASELINES", "Coded", "Texts"]
