"""YAML files and command-line settings to plain values, with the line of every key.

Text, numbers, true, false, null, lists and mappings, and nothing that could run code or grow without bound. What a
plain word means follows YAML 1.2's core schema, as in editors: `no` and dates are text, `1e-3` and `1_000` are numbers,
`010` is ten.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.console.terminal_text import nearest, printable
from pipeline.errors import ConfigError, MissingInputError

MAX_FILE_BYTES = 200_000
MAX_VALUES = 10_000
"""Values of a file, after expanding aliases; as many are read in a quarter of a second."""
MAX_DEPTH = 40

Key = tuple[str, ...]
Places = dict[Key, str]
"""Where each dotted key was last set: `file:line`, or the command line."""

COMMAND_LINE = "command line"
INDEX = re.compile("[0-9]{1,9}")
"""How an entry of a list is named in a key. Python takes ² for a digit, but no number."""

TAG = "tag:yaml.org,2002:"
NULL, BOOL, INT, FLOAT, MERGE = (f"{TAG}{name}" for name in ("null", "bool", "int", "float", "merge"))
PLAIN_WORDS = (
    (NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (INT, r"[-+]?[0-9]+(?:_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        FLOAT,
        r"[-+]?(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    (MERGE, r"<<", ["<"]),
)


class _Loader(yaml.SafeLoader):
    """Composes nodes; stops at a depth that Python's own stack would not bear, and at a number that takes too long."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012
    depth = num_nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth, self.num_nodes = self.depth + 1, self.num_nodes + 1
        if self.depth > MAX_DEPTH or self.num_nodes > 2 * MAX_VALUES:  # keys are nodes too
            problem = _TOO_DEEP if self.depth > MAX_DEPTH else _TOO_MANY
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Puts what `_Loader` would not read as text into quotes."""


for _tag, _pattern, _first in PLAIN_WORDS:
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)
    _Dumper.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)

_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_TOO_MANY = f"more than {MAX_VALUES:,} values"


def read_file(path: Path, named_by: str = "") -> tuple[dict[str, Any], Places]:
    """The values of a configuration file, unresolved, and the place of every key.

    `named_by` is the place that names the file, for messages. Raises MissingInputError when the file cannot be read
    and ConfigError when it is not a mapping in YAML, or is too large.
    """
    prefix = f"{named_by}: " if named_by else ""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise MissingInputError(f"{prefix}{_named(path)}: no such configuration file{_instead(path)}") from None
    except IsADirectoryError:
        raise MissingInputError(f"{prefix}{_named(path)}: a folder; name a file{_instead(path)}") from None
    except OSError as error:
        raise MissingInputError(f"{prefix}{_named(path)}: cannot read the configuration: {error.strerror}") from None
    except ValueError as error:
        raise MissingInputError(f"{prefix}{_named(path)}: not a file name: {error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{_named(path)}: longer than the {MAX_FILE_BYTES:,} bytes that a configuration may have")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{_named(path)}:{line}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    places: Places = {}
    values = _parse(text, _named(path), places)
    if not isinstance(values, dict):
        raise ConfigError(f"{_named(path)}: not a mapping of sections; start with `run:` and `ingest:`")
    return values, places


def read_setting(text: str, name: str) -> Any:
    """The value on the right of `key=value`. `name` is for messages."""
    return _parse(text, name, {}, with_lines=False)


def dump(values: Any) -> str:
    """YAML that reads back as the same values."""
    return yaml.dump(_escaped(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _escaped(value: Any) -> Any:
    """With what would be a reference to another key written so that it is none."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(item) for item in value]
    return value.replace("${", r"\${") if isinstance(value, str) else value


def _instead(path: Path) -> str:
    """A hint at the file that may have been meant: one of nearly this name beside it, or one in the folder."""
    folder = path if path.is_dir() else path.parent
    try:
        names = sorted(
            other.name for other in folder.iterdir() if other.suffix in (".yaml", ".yml") and other.is_file()
        )
    except OSError:
        return ""
    if path.is_dir():
        return f", such as {_named(folder / names[0])}" if names else ""
    by_stem = {Path(name).stem: name for name in names}
    near = nearest(path.stem, by_stem)
    return f"; did you mean {_named(folder / by_stem[near])}?" if near else ""


def _named(path: Path) -> str:
    name = printable(str(path))
    return name if len(name) <= 300 else f"{name[:300]}..."


def _parse(text: str, name: str, places: Places, with_lines: bool = True) -> Any:
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = f":{text.count(chr(10), 0, error.position) + 1}" if with_lines else ""
        number = error.character if isinstance(error.character, int) else ord(error.character)
        raise ConfigError(f"{name}{line}: not valid YAML: the character U+{number:04X} is not allowed") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark and with_lines else ""
        problem = printable(error.problem or "cannot be read")
        hint = "; indent with spaces" if r"'\t'" in problem else ""
        if not with_lines and text.lstrip()[:1] in ("[", "{") and "<stream end>" in problem:
            hint = "; the shell takes what stands in quotes for one: 'key=[a, b]'"
        what = "" if problem in (_TOO_DEEP, _TOO_MANY) else "not valid YAML: "
        raise ConfigError(f"{name}{line}: {what}{problem}{hint}") from None
    return _Builder(name, places, with_lines).build(node, ()) if node is not None else None


class _Builder:
    """Nodes to values. Notes the place of every key; refuses repeated keys, tags, and aliases that never end."""

    def __init__(self, name: str, places: Places, with_lines: bool) -> None:
        self._name, self._places, self._with_lines = name, places, with_lines
        self._left = MAX_VALUES

    def build(self, node: yaml.Node, key: Key) -> Any:
        self._left -= 1
        if self._left < 0:
            raise self._error(node, key, f"{_TOO_MANY}, counting what aliases stand for")
        if len(key) > MAX_DEPTH:
            raise self._error(node, key[:3], f"{_TOO_DEEP}, through an alias")
        if isinstance(node, yaml.MappingNode) and node.tag == f"{TAG}map":
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{TAG}seq":
            return [self._item(item, (*key, str(index))) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            try:
                return _SCALARS[node.tag](node.value)
            except UnicodeEncodeError:
                raise self._error(node, key, f"got {shown(node.value)}; lone surrogates are not text") from None
            except (KeyError, ValueError):
                limit = "a whole number of at most 64 bits" if node.tag == INT else f"a {node.tag.removeprefix(TAG)}"
                raise self._error(node, key, f"got {shown(node.value)}, which is not {limit}") from None
        tag = printable(node.tag.replace(TAG, "!!"))
        raise self._error(node, key, f"the tag {tag} is not allowed; write plain text, numbers, lists and mappings")

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if name_node.tag == MERGE:
                for name, value in self._merged(value_node, key):
                    merged.setdefault(name, value)
                continue
            if not isinstance(name_node, yaml.ScalarNode):
                raise self._error(name_node, key, "a list or mapping cannot be a key; use text")
            name = str(self.build(name_node, key) if name_node.tag == f"{TAG}str" else name_node.value)
            if name in own:
                raise self._error(name_node, (*key, name), "the key is given twice; remove one")
            self._places[(*key, name)] = self._place(name_node)
            own[name] = self.build(value_node, (*key, name))
        return {**merged, **own}

    def _merged(self, node: yaml.Node, key: Key) -> list[tuple[str, Any]]:
        """What `<<: *name` or `<<: [*one, *other]` brings; the first that has a key wins."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        pairs: list[tuple[str, Any]] = []
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                raise self._error(part, key, "`<<` takes a mapping or a list of mappings")
            self._places, outer = {}, self._places
            pairs += self.build(part, key).items()
            inner, self._places = self._places, outer
            for place in inner.items():
                outer.setdefault(*place)
        return pairs

    def _item(self, node: yaml.Node, key: Key) -> Any:
        self._places[key] = self._place(node)
        return self.build(node, key)

    def _place(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}" if self._with_lines else self._name

    def _error(self, node: yaml.Node, key: Key, problem: str) -> ConfigError:
        dotted = f"{dotted_key(key)}: " if key else ""
        return ConfigError(f"{self._place(node)}: {dotted}{problem}")


def has_entry(container: list[Any], part: str) -> bool:
    """Whether a part of a dotted key names an entry of a list."""
    return INDEX.fullmatch(part) is not None and int(part) < len(container)


def _whole_number(text: str) -> int:
    """Raises ValueError also for more than 64 bits, which no setting, JSON reader or tensor would take."""
    sign, digits = (-1 if text.startswith("-") else 1), text.lstrip("+-").replace("_", "")
    base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
    number = sign * int(digits[2:] if base != 10 else digits, base)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _text(text: str) -> str:
    text.encode()
    return text


def _number(text: str) -> float:
    plain = text.lower().replace("_", "")
    return float(plain.replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS = {
    f"{TAG}str": _text,
    NULL: lambda text: None,
    BOOL: lambda text: {"true": True, "false": False}[text.lower()],
    INT: _whole_number,
    FLOAT: _number,
}


def dotted_key(key: Key) -> str:
    """A key as it is written on the command line, on one line and not endless."""
    return ".".join(part if len(part) <= 60 else f"{part[:60]}..." for part in map(printable, key))


def shown(value: Any) -> str:
    """A value as the user may have written it, on one line and not endless."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}... ({len(text):,} characters)"
