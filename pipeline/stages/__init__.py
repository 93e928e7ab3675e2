"""The eleven stages, in the order in which the data flows."""

from __future__ import annotations

from pipeline.stages import (
    augment,
    curate,
    encode,
    evaluate,
    ingest,
    model,
    normalize,
    pack,
    report,
    tokenizer,
    train,
)
from pipeline.stages.contract import Stage, StageContext

__all__ = ["STAGES", "Stage", "StageContext"]

STAGES: tuple[Stage, ...] = (
    ingest.STAGE,
    normalize.STAGE,
    curate.STAGE,
    augment.STAGE,
    tokenizer.STAGE,
    encode.STAGE,
    pack.STAGE,
    model.STAGE,
    train.STAGE,
    evaluate.STAGE,
    report.STAGE,
)
