"""The configuration of a run: one section a stage, and `run:`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from pipeline.corpus.augment_config import AugmentConfig
from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.ingest_config import IngestConfig
from pipeline.corpus.normalize_config import NormalizeConfig
from pipeline.engine.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.evaluation.evaluate_config import EvaluateConfig
from pipeline.features import one_of
from pipeline.plain_yaml import dump
from pipeline.reporting.report_config import ReportConfig
from pipeline.section import Runtime, Section, sections_at
from pipeline.tasks import task_named
from pipeline.tasks.task_model_config import TaskModelConfig
from pipeline.tokens.encoding import EncodeConfig
from pipeline.tokens.packing import PackConfig
from pipeline.tokens.tokenizers import TOKENIZERS, Tokenizer
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe
from pipeline.training.train_config import TrainConfig

__all__ = ["Config", "Runtime", "Section"]

if TYPE_CHECKING:
    AnyTokenizer = Tokenizer
else:
    AnyTokenizer = one_of(TOKENIZERS, Tokenizer, default=ByteLevelBpe)


class Config(Section):
    """A complete run: from raw text to an evaluated model.

    What was loaded for a part of it (`load_config`) is None in place of the sections that the file does not have.
    """

    run: RunConfig
    """Name, seed and workspace."""

    ingest: IngestConfig
    """Sources of raw text."""

    normalize: NormalizeConfig = Field(default_factory=NormalizeConfig)
    """Repair and unify the text of each document."""

    curate: CurateConfig = Field(default_factory=CurateConfig)
    """Filter, deduplicate and split into train, validation and test."""

    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    """Add altered copies to the training split."""

    tokenizer: AnyTokenizer = Field(default_factory=ByteLevelBpe)
    """Train the tokenizer, or take a pretrained model's."""

    encode: EncodeConfig = Field(default_factory=EncodeConfig)
    """Turn documents into streams of token ids."""

    pack: PackConfig = Field(default_factory=PackConfig)
    """Cut the streams into training sequences."""

    model: TaskModelConfig
    """Task, architecture and size of the model."""

    train: TrainConfig
    """Optimization."""

    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    """Metrics, baselines and samples on held-out documents."""

    report: ReportConfig = Field(default_factory=ReportConfig)
    """The HTML report and the model card."""

    def values(self) -> dict[str, dict[str, Any]]:
        """All settings as JSON values, of the sections that are there."""
        dumped = self.model_dump(mode="json", by_alias=True)
        return {name: section for name, section in dumped.items() if section is not None}

    def as_yaml(self) -> str:
        """The same as YAML that can be loaded again."""
        return dump(self.values())

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """What sections leave to others."""
        if not isinstance(values, dict):
            return values
        given = [name for name in cls.model_fields if isinstance(values.get(name), dict)]
        return values | {name: sections_at(cls, [name])[0].complete(values[name], values) for name in given}

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        for name in type(self).model_fields:
            section: Section | None = getattr(self, name)
            if section is not None:
                section.check_fits(self)
        return self

    @model_validator(mode="before")
    @classmethod
    def _the_task_says_how_to_pack(cls, values: Any) -> Any:
        """`pack.strategy` follows from the task."""
        model = values.get("model") if isinstance(values, dict) else None
        name = model.get("task") if isinstance(model, dict) else None
        pack = values.get("pack", {}) if isinstance(values, dict) else None
        if not isinstance(name, str) or not isinstance(pack, dict) or "strategy" in pack:
            return values
        try:
            strategy = task_named(name).strategy
        except ConfigError:  # the model's section tells of it
            return values
        return {**values, "pack": {**pack, "strategy": strategy}}
