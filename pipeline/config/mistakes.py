"""pydantic's errors in words: one line a mistake, with file, line, key, value, and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from pipeline.config import Config
from pipeline.config.layers import may_be_null
from pipeline.console.terminal_text import LONGEST_NAME, did_you_mean, printable
from pipeline.features import Feature, own_class
from pipeline.plain_yaml import COMMAND_LINE, Key, Places, dotted_key, shown
from pipeline.section import kinds_of, sections_at

MAX_LINES = 20
MAX_NAMES = 20
"""Known keys that a message lists; of a section with more it says where to read them."""

EXPECTED = {
    "model": "expected settings below it, one `key: value` a line",
    "dict": "expected settings below it, one `key: value` a line",
    "list": "expected a list: [a, b], or one `- item` a line",
    "tuple": "expected a list: [a, b], or one `- item` a line",
    "string": "expected text",
    "path": "expected a path",
    "int": "expected a whole number",
    "float": "expected a number",
    "bool": "expected true or false",
}
"""What is told of a value of another type, or of text that is none of it."""
OF_TYPE = re.compile("_(type|attributes_type|parsing|from_float)$")

PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": "use letters, digits, `.`, `_` and `-`, at most 100, a letter or digit first",
    r"^[0-9a-f]{40}$": "expected the 40 digits of a commit",
}
"""What patterns of text allow, in words."""


def mistakes_in_words(error: ValidationError, values: dict[str, Any], places: Places, path: Path) -> list[str]:
    """A line for each mistake, of which at most MAX_LINES are told."""
    mistakes = error.errors(include_url=False)
    lines = [_describe(item, values, places, path) for item in mistakes[:MAX_LINES]]
    left = len(mistakes) - len(lines)
    return [*lines, f"{printable(str(path))}: {left:,} more mistakes like these"] if left else lines


def _describe(item: Any, values: dict[str, Any], places: Places, path: Path) -> str:
    key, container = _key_in_values(item["loc"], values)
    kind, given, context = item["type"], item["input"], item.get("ctx", {})
    where = f"{_place(key, places, path)}: {dotted_key(key) or 'configuration'}"
    if kind == "extra_forbidden":
        hint = known_instead(key, container)
        return f"{where}: unknown key{hint}{_how_to_remove(hint, key[:-1], key, places)}"
    if kind == "missing":
        needs_none = " (data alone needs none: `--until pack`)" if key in (("model",), ("train",)) else ""
        return f"{where}: required, but not given{needs_none}"
    if kind == "value_error":
        message = printable(str(context["error"]))
        named = _named_in(message, key, places)
        place, section = _place(named, places, path), dotted_key(key) or "configuration"
        return f"{place}: {section}: {message}{_how_to_remove(message, key, named, places)}"
    if kind == "union_tag_not_found":
        tags = ", ".join(kinds_of(sections_at(Config, key)))
        return f"{where}: `type` is required here, but not given; allowed: {tags}"
    if kind in ("literal_error", "union_tag_invalid", "enum"):
        allowed = str(context.get("expected") or context.get("expected_tags"))
        names = [name.strip(" '") for name in allowed.replace(" or ", ",").split(",")]
        if kind == "union_tag_invalid":
            given, where = given["type"], f"{_place((*key, 'type'), places, path)}: {dotted_key((*key, 'type'))}"
        hint = did_you_mean(str(given), names, otherwise="")
        return f"{where}: got {shown(given)}; allowed: {allowed}{hint}"
    kinds = kinds_of(sections_at(Config, key))
    is_list = kind in ("list_type", "tuple_type")
    with_type = f"expected {'a list of ' * is_list}{{type: NAME, ...}}, where NAME is {' or '.join(kinds)}"
    expected = (
        (with_type if kinds and OF_TYPE.search(kind) else None)
        or EXPECTED.get(OF_TYPE.sub("", kind))
        or PATTERNS.get(str(context.get("pattern")))
        or printable(item["msg"][:1].lower() + item["msg"][1:])
    )
    if kind in ("list_type", "tuple_type") and isinstance(given, str):
        is_quoted = given.lstrip().startswith("[")
        expected = "expected a list, not text in quotes" if is_quoted else f"expected a list: [{given[:LONGEST_NAME]}]"
    if kind in ("model_type", "model_attributes_type", "dict_type") and may_be_null(key):
        expected += ", or null for none"
    if kind in ("string_type", "path_type") and isinstance(given, (bool, int, float, dict, list)):
        expected += "; put it in quotes"
    return f"{where}: got {shown(given)}; {expected}"


def _how_to_remove(message: str, key: Key, named: Key, places: Places) -> str:
    """What to type where a message asks to remove what a file gives, and the command line is in use."""
    doomed = re.search(r"\bremove (it|one|[\w.]+)", message)
    if doomed is None or COMMAND_LINE not in places.values():
        return ""
    setting = named if doomed[1] in ("it", "one") else (*key, *doomed[1].split("."))
    is_in_file = places.get(setting, COMMAND_LINE) != COMMAND_LINE
    return f" (on the command line: {dotted_key(setting)}=null)" if is_in_file else ""


def known_instead(key: Key, container: Any) -> str:
    """A hint at what an unknown key may mean: another trainer's word for a setting, a key that is spelled like it, or
    the same key in another section."""
    *section, name = key
    for holder in [section] if section else [[one] for one in Config.model_fields]:
        for meant in [one.called_elsewhere.get(name.lower()) for one in sections_at(Config, holder)]:
            if meant is not None:
                is_bare = not section and re.split(r"\W", meant)[0] in _fields_at((*holder,), None)
                return f"; here it is {f'{holder[0]}.' if is_bare else ''}{meant}"
    if others := kinds_of([model for model in sections_at(Config, key[:-1]) if name in model.model_fields]):
        return f"; only type {' and '.join(others)} {'has' if len(others) == 1 else 'have'} it: set that, or remove it"
    if name == "type" and (entries := _list_of(str(container.get(name)), key[:-1])):
        return f"; write {{{entries}: [{{type: {printable(str(container[name]))}}}]}}"
    hint = did_you_mean(name, names := _fields_at(key[:-1], container), otherwise="")
    if hint or not names:
        return hint
    elsewhere = [f"{other}.{name}" for other in Config.model_fields if name in _fields_at((other,), None)]
    if elsewhere:
        return f"; did you mean {' or '.join(elsewhere)}?"
    if len(names) > MAX_NAMES:
        return f"; `descent schema` describes the {len(names)} keys of {dotted_key(key[:-1])}"
    return did_you_mean(name, names)


def _list_of(kind: str, key: Key) -> str | None:
    """The setting of the section at a key that is a list of what has this `type`, if there is one."""
    fields = {name: field for section in sections_at(Config, key) for name, field in section.model_fields.items()}
    lists = [name for name, field in fields.items() if get_origin(field.annotation) is list]
    return next((name for name in lists if kind in kinds_of(sections_at(Config, (*key, name)))), None)


def taken_otherwise(valid: Any, given: Any, key: Key, places: Places, path: Path) -> list[str]:
    """A line for each valid value that other readers of YAML take otherwise: truth values given for numbers, and yes
    and no in settings that are handed on to other libraries."""
    where = f"{_place(key, places, path)}: {dotted_key(key)}"
    if isinstance(given, bool) and not isinstance(valid, (bool, str)):
        return [f"{where}: got {shown(given)}; expected a number"]
    if isinstance(valid, BaseModel):
        inner = [(name, value) for name, value in vars(valid).items() if name in given]
        return [line for n, value in inner for line in taken_otherwise(value, given[n], (*key, n), places, path)]
    if isinstance(valid, (list, tuple)):
        pairs = enumerate(zip(valid, given, strict=False))
        return [line for n, (v, g) in pairs for line in taken_otherwise(v, g, (*key, str(n)), places, path)]
    if isinstance(valid, dict):
        words = _truth_words(valid, key)
        return [f"{_place(k, places, path)}: {dotted_key(k)}: got {w!r}; write true or false" for k, w in words]
    return []


def _truth_words(value: Any, key: Key) -> Iterator[tuple[Key, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _truth_words(item, (*key, str(name)))
    elif isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
        yield key, value


def _key_in_values(location: tuple[int | str, ...], values: Any) -> tuple[Key, Any]:
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


def _named_in(message: str, key: Key, places: Places) -> Key:
    """The first setting of a section that a message names, or else the section."""
    for name in re.findall(r"[\w.]+", message):
        inner = (*key, *name.strip(".").split("."))
        if inner in places:
            return inner
    return key


def _fields_at(key: Key, container: Any) -> list[str]:
    """Names of the fields allowed at a dotted key, as far as models alone tell; for hints only."""
    models = sections_at(Config, key)
    if isinstance(container, dict) and "type" in container:
        models = [model for model in models if container["type"] in kinds_of([model])] or models
        with suppress(ValueError):
            models = [own_class(str(container["type"]), Feature)] if ":" in str(container["type"]) else models
    return sorted({name for model in models for name in model.model_fields})


def _place(key: Key, places: Places, path: Path) -> str:
    """Where a key, or else the nearest section around it, was set."""
    for length in range(len(key), 0, -1):
        if key[:length] in places:
            return places[key[:length]]
    return printable(str(path))
