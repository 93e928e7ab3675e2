"""What every section of a configuration shares: strictness, and the mark of fields outside identity."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Runtime:
    """Annotation mark of a field that changes results at most by floating-point reassociation.

    Such fields (worker counts, logging intervals, device batch size) are left out of a stage's
    identity: `num_workers: Annotated[int | None, Runtime()] = None`.
    """


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys. Field docstrings become the schema's text."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )

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
