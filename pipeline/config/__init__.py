"""The configuration of a run: `run`, and a section for each stage that has settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, TypeAdapter, ValidationError, create_model, model_validator

from pipeline.engine.run_config import RunConfig
from pipeline.engine.stage import Stages
from pipeline.errors import ConfigError
from pipeline.plain_yaml import dump
from pipeline.section import Runtime, Section, sections_at
from pipeline.stages import STAGES
from pipeline.tasks import task_named

__all__ = ["Config", "Runtime", "Section", "config_class"]


class BaseConfig(Section):
    """A complete run: from raw text to an evaluated model.

    What was loaded for a part of it (`load_config`) is None in place of the sections that the file does not have.
    """

    run: RunConfig
    """Name, seed and workspace."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The section of a stage."""

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
    def _sections_fit(self) -> BaseConfig:
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


def config_class(stages: Stages) -> type[BaseConfig]:
    """The configuration of these stages. A section may be missing where its settings all have defaults."""
    sections = {stage.name: stage.config for stage in stages if stage.config is not None}
    fields: Any = {name: (section, _default(section)) for name, section in sections.items()}
    return create_model("Config", __base__=BaseConfig, __doc__=BaseConfig.__doc__, **fields)


def _default(section: Any) -> Any:
    validate = TypeAdapter(section).validate_python
    if getattr(section, "must_be_given", False):
        return ...
    try:
        validate({})
    except ValidationError:
        return ...
    return Field(default_factory=lambda: validate({}))


if TYPE_CHECKING:
    Config = BaseConfig
else:
    Config = config_class(STAGES)
