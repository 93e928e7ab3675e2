"""The eleven stages, in the order in which the data flows."""

from __future__ import annotations

from pipeline.engine.stage import Stage, StageContext
from pipeline.stages.augment import STAGE as AUGMENT
from pipeline.stages.curate import STAGE as CURATE
from pipeline.stages.encode import STAGE as ENCODE
from pipeline.stages.evaluate import STAGE as EVALUATE
from pipeline.stages.ingest import STAGE as INGEST
from pipeline.stages.model import STAGE as MODEL
from pipeline.stages.normalize import STAGE as NORMALIZE
from pipeline.stages.pack import STAGE as PACK
from pipeline.stages.report import STAGE as REPORT
from pipeline.stages.tokenizer import STAGE as TOKENIZER
from pipeline.stages.train import STAGE as TRAIN

__all__ = ["STAGES", "Stage", "StageContext"]

STAGES: tuple[Stage, ...] = (
    INGEST,
    NORMALIZE,
    CURATE,
    AUGMENT,
    TOKENIZER,
    ENCODE,
    PACK,
    MODEL,
    TRAIN,
    EVALUATE,
    REPORT,
)
