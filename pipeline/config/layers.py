"""How a later layer of settings replaces an earlier one: a file its base, the command line both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pipeline.config import Config
from pipeline.plain_yaml import Key, Places, has_entry
from pipeline.section import sections_at


def make_way(earlier: dict[str, Any], later: Any, places: Places, key: Key = ()) -> None:
    """Remove from `earlier` the settings that exclude what `later` gives. `later` is a mapping that stands at `key`."""
    for name, value in later.items():
        inner = (*key, name)
        if isinstance(value, dict):
            make_way(earlier, value, places, inner)
        if value is not None:
            for other in _alternatives_of(inner):
                remove_setting(earlier, other, places)


def remove_setting(values: dict[str, Any], key: Key, places: Places) -> None:
    """Remove a setting, where it is given, and what is known of its place."""
    *holder, last = key
    container: Any = values
    for part in holder:
        if isinstance(container, list) and has_entry(container, part):
            container = container[int(part)]
        else:
            container = container.get(part) if isinstance(container, dict) else None
    if isinstance(container, dict):
        container.pop(last, None)
    for place in [place for place in places if place[: len(key)] == key]:
        del places[place]


def may_be_null(key: Key) -> bool:
    """Whether a setting may be null; of another library's settings nobody knows, so they may. Where a `type` chooses
    among sections, null does not count if it is only the default: it removes the setting, which another type may not
    have."""
    sections = sections_at(Config, key[:-1])
    fields = [section.model_fields[key[-1]] for section in sections if key[-1] in section.model_fields]
    optional = [one for one in fields if type(None) in get_args(one.annotation)]
    return not fields or any(len(sections) == 1 or one.default is not None for one in optional)


def _alternatives_of(key: Key) -> Iterator[Key]:
    """The settings that exclude another: `Section.alternatives` of the sections around it."""
    for depth in range(len(key)):
        section, name = key[:depth], ".".join(key[depth:])
        groups = {group for model in sections_at(Config, section) for group in model.alternatives if name in group}
        yield from ((*section, *other.split(".")) for group in groups for other in group if other != name)
