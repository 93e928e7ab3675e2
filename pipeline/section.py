"""What every section of a configuration shares: strictness, and the mark of fields outside identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticUndefined, to_jsonable_python

WORKSPACE = "workspace"
"""The folder in which runs work unless they name another."""


class Runtime:
    """Annotation mark of a field that changes results at most by floating-point reassociation.

    Such fields (worker counts, logging intervals, device batch size) are left out of a stage's
    identity: `num_workers: Annotated[int | None, Runtime()] = None`.
    """


@dataclass(frozen=True)
class Choice:
    """What a setting that says `auto` comes to on this machine, and why, in words."""

    value: str
    why: str


Alternatives = tuple[tuple[str, ...], ...]


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys. Field docstrings become the schema's text."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    alternatives: ClassVar[Alternatives] = ()
    """Groups of settings that exclude each other. A nested one is written `section.name`. A later layer that sets one
    clears the others (config/layers.py)."""

    must_be_given: ClassVar[bool] = False
    """Whether a configuration must have this section although all of its settings have defaults."""

    called_elsewhere: ClassVar[Mapping[str, str]] = {}
    """What settings are called in other programs, and what they are here."""

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

    @classmethod
    def complete(cls, values: dict[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in values that follow from other sections, before validation. `whole` is the raw configuration. Raises
        ValueError where that is impossible."""
        return values

    def check_fits(self, whole: Any) -> None:
        """Raises ValueError where the section does not fit the others of a configuration, all of which are valid."""

    def choices(self) -> dict[str, Choice]:
        """What those of the settings that say `auto` come to on this machine."""
        return {}

    def identity(self) -> dict[str, Any]:
        """The settings that may shape a result, as JSON values: all but those marked `Runtime`."""
        fields = type(self).model_fields.items()
        return {field.alias or name: _plain(getattr(self, name)) for name, field in fields if not self.is_runtime(name)}

    def of_key(self) -> dict[str, Any]:
        """The settings that enter the key: those of `identity` that differ from their default. So a new setting that is
        off by default changes no key."""
        names = {field.alias or name: name for name, field in type(self).model_fields.items()}
        return {
            key: _of_key(getattr(self, names.get(key, key), None), value)
            for key, value in self.identity().items()
            if key == "type" or value != _default(type(self), names.get(key))
        }

    def is_runtime(self, name: str) -> bool:
        """Whether a field changes results at most by floating-point reassociation."""
        return any(isinstance(mark, Runtime) for mark in type(self).model_fields[name].metadata)


def sections_at(root: type[Section], key: Sequence[str]) -> list[type[Section]]:
    """The sections that may stand at a dotted key below `root`; several where a `type` chooses."""
    found: list[type[Section]] = [root]
    for part in key:
        if not part.isascii() or not part.isdigit():  # else an entry of a list
            fields = [one.model_fields[part] for one in found if part in one.model_fields]
            found = [section for field in fields for section in sections_in(field.annotation)]
    return found


def sections_in(annotation: Any) -> list[type[Section]]:
    """The sections that an annotation of a field allows."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for argument in getattr(annotation, "__args__", ()) for section in sections_in(argument)]


def kinds_of(sections: Iterable[type[Section]]) -> list[str]:
    """The values of `type` that choose among sections."""
    tagged = [section.model_fields["type"] for section in sections if "type" in section.model_fields]
    return [kind for field in tagged for kind in getattr(field.annotation, "__args__", ())]


def _plain(value: Any) -> Any:
    """JSON values; the runtime fields of sections inside are left out as well."""
    if isinstance(value, Section):
        return value.identity()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return to_jsonable_python(value)


def _of_key(value: Any, plain: Any) -> Any:
    if isinstance(value, Section):
        return value.of_key()
    if isinstance(value, (list, tuple)):
        return [_of_key(item, one) for item, one in zip(value, plain, strict=True)]
    return plain


def _default(section: type[Section], name: str | None) -> Any:
    """The default of a field as JSON; of one that has none, what no value is equal to."""
    default = section.model_fields[name].get_default(call_default_factory=True) if name else PydanticUndefined
    return default if default is PydanticUndefined else _plain(default)
