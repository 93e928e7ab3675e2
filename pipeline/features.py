"""Features: filters, sources, tokenizers, tasks, metrics. Each is a section with its settings and its work; `type`
selects it.

A package lists its kinds in a tuple, and `one_of` makes of it the type of a setting. Where a kind may stand, a class of
the user's own may stand as well, by path: `type: ./my_filters.py:NoLegalese`, or `package.module:Class`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, Union

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapSerializer,
    WrapValidator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipeline.console.terminal_text import did_you_mean, nearest
from pipeline.errors import OWN_CODE, own_code_line
from pipeline.section import Section

Base = TypeVar("Base")

OWN = r"^.+:[A-Za-z_]\w*$"
"""What a `type` looks like that names a class of the user's own."""

_OWN_NAME = {"type": "string", "pattern": OWN, "description": "A class of your own."}


UNICODE = {"unicode": unicodedata.unidata_version}
"""The fact for features that ask Python what kind a character is: its Unicode tables differ between Python versions."""

Kind = TypeVar("Kind", bound="Feature")


class Feature(Section):
    """A kind of one thing: its settings, and a method or two that do the work. One that comes with Descent has a name:
    `class MinChars(Filter, type="min_chars")`. The docstring of a kind is the schema's text."""

    if TYPE_CHECKING:
        type: str = ""
    else:
        type: str
    """Which kind: the name of one that comes with Descent, or the path of a class of your own."""

    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions that it calls, whose versions enter the key of a stage that uses it."""

    def __init_subclass__(cls, type: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if type is not None:
            cls.__annotations__ = {"type": Literal[type], **inspect.get_annotations(cls)}
            cls.type = Field(default=type, description=" ".join(str(cls.__doc__).partition("\n\n")[0].split()))

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """Files whose content shapes the result, by the name under which `plan` speaks of them.

        Raises MissingInputError when one does not exist. It must be cheap.
        """
        return {}

    def facts_of_key(self) -> Mapping[str, Any]:
        """JSON values besides settings, files and libraries that shape the result, by the name under which `plan`
        speaks of them. It must be cheap."""
        return {}

    def __getstate__(self) -> dict[Any, Any]:
        """Values that methods keep (`cached_property`) are made anew where it is unpickled: they may be large."""
        state = super().__getstate__()
        kept = {name: value for name, value in state["__dict__"].items() if name in type(self).model_fields}
        return {**state, "__dict__": kept}

    def __reduce__(self) -> Any:
        """Pickle by path: a worker process cannot import a class from a user's file by name."""
        if ":" in self.type:
            return _restored, (self.type, self.model_dump(by_alias=True, exclude_unset=True))
        return super().__reduce__()


def features_in(value: Any) -> Iterator[Feature]:
    """The features in a section, or in a value of a setting, that may shape a result; of a feature first itself."""
    if isinstance(value, Feature):
        yield value
    if isinstance(value, Section):
        value = [getattr(value, name) for name in type(value).model_fields if not value.is_runtime(name)]
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from features_in(one)


def files_of_key(features: Iterable[Feature]) -> dict[str, list[Path]]:
    """The files that shape what features do: those that they name, and the code of the user's own."""
    files: dict[str, list[Path]] = {}
    for feature in features:
        files.update({name: list(paths) for name, paths in feature.files_of_key().items()})
        if ":" in feature.type:
            place = feature.type.rpartition(":")[0]
            files[place] = [Path(str(sys.modules[type(feature).__module__].__file__))]
    return files


def libraries_of_key(features: Iterable[Feature]) -> dict[str, None]:
    """The distributions that features call, each once."""
    return dict.fromkeys(name for feature in features for name in feature.libraries)


def facts_of_key(features: Iterable[Feature]) -> dict[str, Any]:
    """What else shapes what features do."""
    return {name: value for feature in features for name, value in feature.facts_of_key().items()}


def one_of(
    kinds: tuple[type[Feature], ...],
    base: type[Feature],
    default: type[Feature] | None = None,
    by_name: bool = False,
) -> Any:
    """The type of a setting that is one of these kinds, or a class of the user's own derived from `base`. Without a
    `type` it is of the kind `default`. With `by_name` one without settings is given, and written, by its name alone."""
    kind_of = {kind.model_fields["type"].default: kind for kind in kinds}

    def validate(value: Any, known: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, base):
            return value
        if by_name and isinstance(value, str):
            value = {"type": value}
        spec = value.get("type") if isinstance(value, dict) else None
        if isinstance(spec, str) and ":" in spec:
            return own_class(spec, base).model_validate(value)
        kind = default if isinstance(value, dict) and "type" not in value else kind_of.get(str(spec))
        return kind.model_validate(value) if kind is not None else known(value)

    union: Any = Union[kinds]  # noqa: UP007
    return Annotated[
        SerializeAsAny[union],  # type: ignore[misc]
        Field(discriminator="type"),
        WrapValidator(validate),
        *([WrapSerializer(_name_alone)] if by_name else []),
        _InSchema(default is not None, tuple(kind_of) if by_name else ()),
    ]


def _name_alone(value: Any, serialize: SerializerFunctionWrapHandler) -> Any:
    written = serialize(value)
    return written["type"] if written.keys() == {"type"} else written


def name_of(kinds: tuple[type[Feature], ...], base: type[Feature]) -> Any:
    """The type of a setting that names one of these kinds, or a class of the user's own derived from `base`."""

    def validate(value: Any, known: ValidatorFunctionWrapHandler) -> Any:
        if not isinstance(value, str) or ":" not in value:
            return known(value)
        own_class(value, base)
        return value

    names: Any = Literal[tuple(kind.model_fields["type"].default for kind in kinds)]
    return Annotated[names, WrapValidator(validate), PlainSerializer(str, return_type=str), _OwnNameInSchema()]


class _OwnNameInSchema:
    """Lets editors accept the path of a class of the user's own."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(core), _OWN_NAME]}


@dataclass(frozen=True)
class _InSchema:
    """Lets editors accept a class of the user's own, of which they cannot know the settings."""

    has_default: bool
    names: tuple[str, ...]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        known = handler(core)
        if self.has_default:  # Settings without a type may be those of several kinds.
            known = {"anyOf": known["oneOf"]}
        own = {"type": "object", "properties": {"type": {"type": "string", "pattern": OWN}}, "required": ["type"]}
        kinds: list[JsonSchemaValue] = [known, {**own, "description": "A class of your own."}]
        if self.names:
            kinds = [{"enum": list(self.names)}, _OWN_NAME, *kinds]
        return {"anyOf": kinds}


def own_class(spec: str, base: type[Kind]) -> type[Kind]:
    """The class of a feature that `FILE.py:Class` or `package.module:Class` names.

    Raises ValueError as `load_class`.
    """
    found = load_class(spec, base, f"{base.__module__.rpartition('.')[0]}.{base.__name__}")
    try:
        found.model_rebuild()
    except PydanticUndefinedAnnotation as error:
        raise _cannot_be_loaded(spec.rpartition(":")[0], NameError(error.message)) from None
    if found.model_fields["type"].annotation is not str:
        kind = found.model_fields["type"].default
        what = f"is {kind} already; a class of your own derived from it needs" if isinstance(kind, str) else "needs"
        raise ValueError(f"{spec} {what} the line `type: str`")
    if missing := sorted(found.__abstractmethods__):
        own = [name for name, value in vars(found).items() if callable(value) and not name.startswith("_")]
        meant = sorted({near for name in missing if (near := nearest(name, own))})
        found_instead = f"; it has {', '.join(meant)}" if meant else ""
        raise ValueError(f"{spec} lacks {', '.join(missing)}, which a {base.__name__} needs{found_instead}")
    return found


def load_class(spec: str, base: type[Base], base_name: str) -> type[Base]:
    """The class that `FILE.py:Class` or `package.module:Class` names.

    Raises ValueError when it cannot be had, or is not derived from `base`, which messages call `base_name`.
    """
    place, _, name = spec.rpartition(":")
    module = _load(place)
    found = getattr(module, name, None)
    if found is None:
        own = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)]
        raise ValueError(f"{place} has no class {name!r}{did_you_mean(name, own, otherwise='')}")
    if not isinstance(found, type) or not issubclass(found, base):
        raise ValueError(f"{spec} is no {base.__name__}; derive it from {base_name}")
    return found


def file_of(spec: str) -> Path:
    """The file that holds a class of the user's own, which is not loaded. Raises ValueError when there is none."""
    place = spec.rpartition(":")[0]
    try:
        found = None if place.endswith(".py") else importlib.util.find_spec(place)
    except (ImportError, ValueError) as error:
        raise _cannot_be_loaded(place, error) from None
    path = Path(found.origin) if found is not None and found.origin is not None else Path(place)
    if not path.is_file():
        raise _cannot_be_loaded(place, FileNotFoundError())
    return path


def _restored(spec: str, values: dict[str, Any]) -> Feature:
    return own_class(spec, Feature).model_validate(values)


def _load(place: str) -> ModuleType:
    try:
        if place.endswith(".py"):
            return _load_file(Path(place))
        module = importlib.import_module(place)
        vars(module)[OWN_CODE] = str(module.__file__)
        return module
    except Exception as error:
        raise _cannot_be_loaded(place, error) from None


def _cannot_be_loaded(place: str, error: Exception) -> ValueError:
    reason = "there is no such file" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}"
    if isinstance(error, PydanticUserError) and error.code == "model-field-missing-annotation":
        reason = f"{str(error).partition('`')[2].partition('`')[0]} needs a type, as in `share: float = 0.2`"
    where = own_code_line(error) or place
    return ValueError(f"{where} cannot be loaded: {' '.join(reason.split())}; mend it or its path")


def _load_file(path: Path) -> ModuleType:
    """The module of a file, loaded once for each content: a test or a notebook may change it meanwhile."""
    name = f"descent_own_{hashlib.blake2b(str(path.resolve()).encode() + path.read_bytes(), digest_size=8).hexdigest()}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        vars(module)[OWN_CODE] = str(path)
        sys.modules[name] = module  # pydantic looks there for what annotations mean
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
