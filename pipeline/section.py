"""What every section of a configuration shares: strictness, and the mark of fields outside identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator


class Runtime:
    """Annotation mark of a field that changes results at most by floating-point reassociation.

    Such fields (worker counts, logging intervals, device batch size) are left out of a stage's
    identity: `num_workers: Annotated[int | None, Runtime()] = None`.
    """


class Added:
    """Annotation mark of a field that came later and is off by default: at its default it is left out of a stage's
    identity, so that what was made without it stays what it is."""


@dataclass(frozen=True)
class Choice:
    """What a setting that says `auto` comes to on this machine, and why, in words."""

    value: str
    why: str


Alternatives = tuple[tuple[str, ...], ...]


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys. Field docstrings become the schema's text."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )

    alternatives: ClassVar[Alternatives] = ()
    """Groups of settings, of each of which one may be given; one inside a section as `section.name`. A later layer of
    settings that gives one takes the others away (`config/layers.py`)."""

    @model_validator(mode="after")
    def _has_one_of_alternatives(self) -> Self:
        for group in self.alternatives:
            # Not whether they were set: in a run's config.yaml, which repeats the run, every setting is.
            given = [name for name in group if self._differs_from_default(name)]
            if len(given) > 1:
                raise ValueError(f"{' and '.join(given)} are both given, of which one may be; remove one")
        return self

    def _differs_from_default(self, name: str) -> bool:
        first, _, rest = name.partition(".")
        value = getattr(self, first)
        if rest:
            return bool(value._differs_from_default(rest))
        return bool(value != type(self).model_fields[first].default)

    def choices(self) -> dict[str, Choice]:
        """What those of the settings that say `auto` come to on this machine."""
        return {}

    def identity(self) -> dict[str, Any]:
        """The settings that belong to a stage's identity, as JSON values: all but those marked `Runtime`, and those
        marked `Added` that are off."""
        kept: dict[str, Any] = {}
        dumped = self.model_dump(mode="json", by_alias=True)
        off = self.off()
        for name, field in type(self).model_fields.items():
            if self.is_runtime(name) or name in off:
                continue
            key = field.alias or name
            kept[key] = _identity_of(getattr(self, name), dumped[key])
        return kept

    def is_runtime(self, name: str) -> bool:
        """Whether a field changes results at most by floating-point reassociation."""
        return any(isinstance(mark, Runtime) for mark in type(self).model_fields[name].metadata)

    def off(self) -> set[str]:
        """Names of the fields that came later and are at their default."""
        fields = type(self).model_fields.items()
        added = {name: field for name, field in fields if any(isinstance(mark, Added) for mark in field.metadata)}
        return {name for name, field in added.items() if getattr(self, name) == field.default}


def _identity_of(value: Any, dumped: Any) -> Any:
    """Descend into nested sections so that their runtime fields are left out as well."""
    if isinstance(value, Section):
        return value.identity()
    if isinstance(value, (list, tuple)):
        return [_identity_of(item, plain) for item, plain in zip(value, dumped, strict=True)]
    if isinstance(value, dict):
        return {
            key: _identity_of(item, plain) for (key, item), plain in zip(value.items(), dumped.values(), strict=True)
        }
    return dumped
