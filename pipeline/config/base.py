"""What every section of a configuration shares: strictness, and the mark of fields outside identity."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator


class Runtime:
    """Annotation mark of a field that changes results at most by floating-point reassociation.

    Such fields (worker counts, logging intervals, device batch size) are left out of a stage's
    identity: `num_workers: Annotated[int | None, Runtime()] = None`.
    """


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

    def identity(self) -> dict[str, Any]:
        """The settings that belong to a stage's identity: all but those marked `Runtime`, as JSON values."""
        kept: dict[str, Any] = {}
        dumped = self.model_dump(mode="json", by_alias=True)
        for name, field in type(self).model_fields.items():
            if any(isinstance(mark, Runtime) for mark in field.metadata):
                continue
            key = field.alias or name
            kept[key] = _identity_of(getattr(self, name), dumped[key])
        return kept


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
