"""Metrics: figures of a trained model on held-out documents. A new one is a file here and a line in METRICS."""

from pipeline.evaluation.metrics.accuracy import Accuracy
from pipeline.evaluation.metrics.base_metric import FEWEST_DOCUMENTS, Figure, LabelMetric, Metric, TextMetric, Totals
from pipeline.evaluation.metrics.bits_per_byte import BitsPerByte
from pipeline.evaluation.metrics.evaluate_module import EvaluateModule
from pipeline.evaluation.metrics.f1_macro import MacroF1
from pipeline.evaluation.metrics.mae import MeanAbsoluteError
from pipeline.evaluation.metrics.mse import MeanSquaredError
from pipeline.evaluation.metrics.pearson import Pearson
from pipeline.evaluation.metrics.perplexity import Perplexity
from pipeline.evaluation.metrics.r2 import Determination
from pipeline.evaluation.metrics.token_accuracy import TokenAccuracy
from pipeline.evaluation.metrics.top_5_accuracy import TopFiveAccuracy

METRICS = (
    BitsPerByte,
    Perplexity,
    TokenAccuracy,
    TopFiveAccuracy,
    Accuracy,
    MacroF1,
    MeanSquaredError,
    MeanAbsoluteError,
    Determination,
    Pearson,
    EvaluateModule,
)

METRIC_OF_KEY = {kind.model_fields["type"].default: kind for kind in METRICS}
"""The classes of METRICS by the name of their figure in an evaluation."""

__all__ = ["FEWEST_DOCUMENTS", "METRICS", "METRIC_OF_KEY", "Figure", "LabelMetric", "Metric", "TextMetric", "Totals"]
