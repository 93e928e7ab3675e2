"""From a YAML file and command-line overrides to a validated `Config`, with errors that name file and line."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache, reduce
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError, create_model

from pipeline.config import Config
from pipeline.config.layers import make_way, may_be_null, remove_setting
from pipeline.config.mistakes import known_instead, mistakes_in_words, taken_otherwise
from pipeline.console.terminal_text import did_you_mean, printable
from pipeline.errors import ConfigError
from pipeline.plain_yaml import COMMAND_LINE, Key, Places, dotted_key, has_entry, read_file, read_setting, shown

MISSING = "???"
MAX_BASES = 20
MAX_REFERENCES = 1_000
"""References `${section.key}` of a configuration, counted again wherever one is reached through another."""
MAX_REFERRED_CHARS = 1_000_000

REFERENCE = re.compile(r"(?<!\\)\$\{([\w$-]+(?:\.[\w-]+)*)\}")


def load_config(
    path: Path, overrides: Sequence[str] = (), sections: Collection[str] = tuple(Config.model_fields)
) -> Config:
    """Load `path`, its `base:` chain and `key=value` overrides.

    Sections that have no defaults may be missing unless they are among `sections`. A file wins over its base, the
    command line over the file, a later word of it over an earlier one. The same holds between settings that exclude
    each other. `key=null` takes back a setting of a file.

    Raises MissingInputError when a file does not exist, and ConfigError for anything that is not valid. Its message has
    one line a mistake: place, dotted key, value, what is allowed, nearest valid key.
    """
    values, places = _load_chain(path, "", seen=())
    for override in overrides:
        _apply_override(values, override, places)
    _References(values, places).check(values, ())
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(values), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = tuple(str(getattr(error, "full_key", None) or "configuration").split("."))
        problem = printable(str(error).strip().partition("\n")[0])
        raise ConfigError(f"{places.get(key, path)}: {dotted_key(key)}: {problem}") from None
    assert isinstance(resolved, dict)
    given: dict[str, Any] = {str(key): value for key, value in resolved.items() if key != "$schema"}
    try:
        config = _config_with(frozenset(sections)).model_validate(given)
    except ValidationError as error:
        raise ConfigError("\n".join(mistakes_in_words(error, given, places, path))) from None
    if mistakes := taken_otherwise(config, given, (), places, path):
        raise ConfigError("\n".join(mistakes))
    return config


@cache
def _config_with(sections: frozenset[str]) -> type[Config]:
    """`Config` in which only these sections must be there."""
    may_be_missing: dict[str, Any] = {
        name: (field.annotation, None)
        for name, field in Config.model_fields.items()
        if field.is_required() and name not in sections
    }
    return create_model("Config", __base__=Config, **may_be_missing) if may_be_missing else Config


def _load_chain(path: Path, named_by: str, seen: tuple[Path, ...]) -> tuple[dict[str, Any], Places]:
    """The values of a file laid over those of its base, and of that one's."""
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError):
        resolved = path  # Reading it says what is wrong.
    if resolved in seen:
        raise ConfigError(f"{named_by}: the file inherits from itself; remove one of the base: lines")
    if len(seen) == MAX_BASES:
        raise ConfigError(f"{named_by}: more than {MAX_BASES} files inherit from one another; join some of them")
    values, places = read_file(path, named_by)
    base = values.pop("base", None)
    if base is None:
        return values, places
    place = f"{places['base',]}: base"
    if not isinstance(base, str) or not base:
        raise ConfigError(f"{place}: got {shown(base)}; give the path of one YAML file, relative to this one")
    inherited, inherited_places = _load_chain(path.parent / base, place, (*seen, resolved))
    make_way(inherited, values, inherited_places)
    merged = OmegaConf.to_container(OmegaConf.merge(inherited, values), resolve=False)
    assert isinstance(merged, dict)
    return {str(key): value for key, value in merged.items()}, inherited_places | places


def _apply_override(values: dict[str, Any], override: str, places: Places) -> None:
    name, separator, text = override.partition("=")
    name = re.sub(r"\[(\d+)\]", r".\1", name.strip())
    key = tuple(name.split("."))
    if not separator or not all(key):
        raise ConfigError(f"{COMMAND_LINE}: {shown(override)} is not key=value, such as train.learning_rate=0.001")
    where = f"{COMMAND_LINE}: {dotted_key(key)}"
    if key[0] not in Config.model_fields:
        hint = did_you_mean(key[0], Config.model_fields) if len(key) > 1 else known_instead(key, None)
        raise ConfigError(f"{where}: unknown section{hint}")
    if not name.isprintable():
        raise ConfigError(f"{where}: the key is not printable text")
    value = read_setting(text, where)
    if value is None and text.strip() and not may_be_null(key):
        remove_setting(values, key, places)
        return
    make_way(values, reduce(lambda inner, part: {part: inner}, reversed(key), value), places)
    container: Any = values
    for depth, part in enumerate(key):
        if isinstance(container, list):
            if not has_entry(container, part):
                entries = "one entry" if len(container) == 1 else f"{len(container)} entries"
                holder = dotted_key(key[:depth])
                names = [item.get("name") if isinstance(item, dict) else None for item in container]
                called = f"; did you mean {holder}.{names.index(part)}?" if part in names else ""
                raise ConfigError(f"{where}: {holder} has {entries}, counted from 0; there is no {shown(part)}{called}")
            place: Any = int(part)
        elif isinstance(container, dict):
            place = part
            if container.get(part) is None:
                container[part] = {}
        else:
            raise ConfigError(f"{where}: {dotted_key(key[:depth])} is {shown(container)}, which has no settings inside")
        if depth == len(key) - 1:
            container[place] = value
        else:
            container = container[place]
    for stale in [place for place in places if place[: len(key)] == key]:
        del places[stale]
    places.update(dict.fromkeys(_keys_of(value, key), COMMAND_LINE))


def _keys_of(value: Any, key: Key) -> Iterator[Key]:
    """The keys of a setting that is given, and of all within it."""
    yield key
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inner:
        yield from _keys_of(item, (*key, str(name)))


class _References:
    """Checks `${section.key}` before OmegaConf resolves it. OmegaConf alone would read the environment through
    `${oc.env:...}`, and follow references that multiply without bound."""

    def __init__(self, values: dict[str, Any], places: Places) -> None:
        self._values, self._places = values, places
        self._references_left, self._chars_left = MAX_REFERENCES, MAX_REFERRED_CHARS

    def check(self, value: Any, key: Key, trail: tuple[Key, ...] = ()) -> None:
        """Raises ConfigError for what is no plain reference, leads nowhere, or leads in a circle. `trail` holds the
        keys whose references led here."""
        if isinstance(value, dict):
            for name, item in value.items():
                self.check(item, (*key, name), trail)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.check(item, (*key, str(index)), trail)
        elif isinstance(value, str):
            self._check_text(value, key, trail)

    def _check_text(self, text: str, key: Key, trail: tuple[Key, ...]) -> None:
        self._chars_left -= len(text) if trail else 0
        origin = trail[0] if trail else key
        where = f"{self._places.get(origin, COMMAND_LINE)}: {dotted_key(origin)}"
        if text == MISSING:
            raise ConfigError(f"{where}: got {MISSING}, which stands for a value that is still to be given; give it")
        if "${" not in text:
            return
        # OmegaConf takes two backslashes for one that escapes nothing.
        if r"\\${" in text or "${" in REFERENCE.sub("", text).replace(r"\${", ""):
            raise ConfigError(
                f"{where}: got {shown(text)}; a reference is written ${{section.key}} and nothing else (a literal "
                r"${ is \${; what is in the environment can be given on the command line, as section.key=$NAME)"
            )
        for name in REFERENCE.findall(text):
            target = tuple(name.split("."))
            self._references_left -= 1
            if self._references_left < 0 or self._chars_left < 0:
                raise ConfigError(f"{where}: the references multiply to more than {MAX_REFERENCES:,}; write values out")
            if target in (*trail, key):
                raise ConfigError(f"{where}: got {shown(text)}; the reference leads back to itself")
            self.check(self._value(target, where), target, (*trail, key, target))

    def _value(self, target: Key, where: str) -> Any:
        value: Any = self._values
        for depth, part in enumerate(target):
            names = value if isinstance(value, dict) else {}
            if isinstance(value, list) and has_entry(value, part):
                value = value[int(part)]
            elif part in names:
                value = value[part]
            else:
                known = did_you_mean(part, [*names]) if depth else did_you_mean(part, Config.model_fields)
                raise ConfigError(
                    f"{where}: refers to {dotted_key(target)}, which is not set here (defaults are not seen){known}"
                )
        return value
