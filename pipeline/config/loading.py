"""From a YAML file and command-line overrides to a validated `Config`, with errors that name file and line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from pipeline.config import Config
from pipeline.errors import ConfigError, MissingInputError

MAX_FILE_BYTES = 1_000_000
MAX_NODES = 100_000
COMMAND_LINE = "command line"
MERGE_TAG = "tag:yaml.org,2002:merge"

Places = dict[tuple[str, ...], str]
"""Where each dotted key was last set: `file:line`, or the command line."""


def load_config(path: Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Load `path`, its `base:` chain and `key=value` overrides.

    Raises MissingInputError when a file does not exist and ConfigError for anything that is not valid;
    the message has one line a mistake: place, dotted key, value, what is allowed, nearest valid key.
    """
    places: Places = {}
    merged = _load_file(path, places, seen=())
    for override in overrides:
        merged = _apply_override(merged, override, places)
    try:
        values = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", None) or "")
        raise ConfigError(f"{_place(tuple(key.split('.')), places, path)}: {key}: {_first_line(error)}") from None
    assert isinstance(values, dict)
    sections: dict[str, Any] = {str(key): value for key, value in values.items() if key != "$schema"}
    try:
        return Config.model_validate(sections)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, sections, places, path))) from None


def _load_file(path: Path, places: Places, seen: tuple[Path, ...]) -> Any:
    resolved = path.resolve()
    if resolved in seen:
        raise ConfigError(f"{path}: base: the file inherits from itself; remove one of the base: lines")
    values, own_places = _read_yaml(path)
    base = values.pop("base", None)
    own = OmegaConf.create(values)
    if base is None:
        places.update(own_places)
        return own
    if not isinstance(base, str):
        raise ConfigError(f"{own_places[('base',)]}: base: got {base!r}; give the path of one YAML file")
    inherited = _load_file(path.parent / base, places, (*seen, resolved))
    places.update(own_places)
    return OmegaConf.merge(inherited, own)


def _read_yaml(path: Path) -> tuple[dict[str, Any], Places]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingInputError(f"{path}: no such configuration file") from None
    except OSError as error:
        raise MissingInputError(f"{path}: cannot read the configuration: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: {len(data):,} bytes; a configuration has at most {MAX_FILE_BYTES:,}")
    places: Places = {}
    try:
        text = data.decode()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: not a mapping of sections; start with `run:` and `ingest:`")
        _record_places(node, (), str(path), places, budget=[MAX_NODES])
        values = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or _first_line(error)
        raise ConfigError(f"{path}{line}: not valid YAML: {problem}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {_first_line(error)}") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}, places


def _record_places(node: yaml.Node, key: tuple[str, ...], file: str, places: Places, budget: list[int]) -> None:
    """Note the line of every key; refuse repeated keys, and aliases that expand without bound."""
    budget[0] -= 1
    if budget[0] < 0:
        raise ConfigError(f"{file}: more than {MAX_NODES:,} values after expanding aliases; write it without them")
    if isinstance(node, yaml.MappingNode):
        own: set[str] = set()
        for key_node, value_node in node.value:
            name = str(key_node.value)
            place = f"{file}:{key_node.start_mark.line + 1}"
            if name in own and key_node.tag != MERGE_TAG:
                raise ConfigError(f"{place}: {'.'.join((*key, name))}: the key is given twice; remove one")
            own.add(name)
            places[(*key, name)] = place
            _record_places(value_node, (*key, name), file, places, budget)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            places[(*key, str(index))] = f"{file}:{item.start_mark.line + 1}"
            _record_places(item, (*key, str(index)), file, places, budget)


def _apply_override(config: Any, override: str, places: Places) -> Any:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"{COMMAND_LINE}: {override!r} is not key=value, such as train.learning_rate=0.001")
    parts = tuple(key.split("."))
    if parts[0] not in Config.model_fields:
        raise ConfigError(f"{COMMAND_LINE}: {key}: unknown section{_nearest(parts[0], Config.model_fields)}")
    try:
        parsed = OmegaConf.to_container(OmegaConf.create(f"value: {value}"), resolve=False)
        assert isinstance(parsed, dict)
        OmegaConf.update(config, key, parsed["value"], merge=False, force_add=True)
    except (yaml.YAMLError, OmegaConfBaseException, TypeError, ValueError, IndexError) as error:
        raise ConfigError(f"{COMMAND_LINE}: {override!r}: {_first_line(error)}") from None
    for stale in [place for place in places if place[: len(parts)] == parts]:
        del places[stale]
    places[parts] = COMMAND_LINE
    return config


def _explain(error: ValidationError, values: dict[str, Any], places: Places, path: Path) -> list[str]:
    lines = []
    for item in error.errors(include_url=False):
        key, container = _key_in_values(item["loc"], values)
        where = f"{_place(key, places, path)}: {'.'.join(key) or 'configuration'}"
        context = item.get("ctx", {})
        if item["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key{_nearest(key[-1], _fields_at(key[:-1], container))}")
        elif item["type"] == "missing":
            lines.append(f"{where}: required, but not given")
        elif item["type"] in ("literal_error", "union_tag_invalid", "enum"):
            allowed = str(context.get("expected") or context.get("expected_tags"))
            names = [name.strip(" '") for name in allowed.replace(" or ", ",").split(",")]
            given = context.get("tag", item["input"])
            lines.append(f"{where}: got {given!r}; allowed: {allowed}{_nearest(str(given), names)}")
        elif item["type"] == "value_error":
            lines.append(f"{where}: {context['error']}")
        elif item["type"] == "union_tag_not_found":
            lines.append(f"{where}: `type` is required here, but not given")
        else:
            lines.append(f"{where}: got {item['input']!r}; {_lower_first(item['msg'])}")
    return lines


def _key_in_values(location: tuple[int | str, ...], values: Any) -> tuple[tuple[str, ...], Any]:
    """The dotted key that a pydantic location means (union tags left out), and the value that holds it."""
    key: list[str] = []
    container = current = values
    for index, part in enumerate(location):
        present = isinstance(current, dict) and part in current
        present = present or (isinstance(current, list) and isinstance(part, int) and part < len(current))
        if not present and index < len(location) - 1:
            continue
        container = current
        key.append(str(part))
        current = current[part] if present else None
    return tuple(key), container


def _fields_at(key: tuple[str, ...], container: Any) -> list[str]:
    """Names of the fields allowed at a dotted key, as far as models alone tell; for hints only."""
    models: list[type[BaseModel]] = [Config]
    for part in key:
        if part.isdigit():
            continue
        found = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        models = [model for annotation in found for model in _models_in(annotation)]
    if isinstance(container, dict) and "type" in container:
        tagged = [m for m in models if "type" in m.model_fields and m.model_fields["type"].default == container["type"]]
        tagged += [m for m in models if "type" in m.model_fields and _literal(m) == container["type"]]
        models = tagged or models
    return [name for model in models for name in model.model_fields]


def _literal(model: type[BaseModel]) -> Any:
    arguments = getattr(model.model_fields["type"].annotation, "__args__", ())
    return arguments[0] if arguments else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]


def _place(key: tuple[str, ...], places: Places, path: Path) -> str:
    """Where a key, or else the nearest section around it, was set."""
    for length in range(len(key), 0, -1):
        if key[:length] in places:
            return places[key[:length]]
    return str(path)


def _nearest(name: str, names: Any) -> str:
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else f"; known: {', '.join(sorted(names))}" if names else ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
