"""The stages, in the order in which the data flows. A new one is a file here and a line below."""

from __future__ import annotations

from pipeline.engine.stage import in_order
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

__all__ = ["STAGES"]

STAGES = in_order(
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
