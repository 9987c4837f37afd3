"""YAML that remembers its lines, so that a wrong key can be pointed at.

PyYAML follows YAML 1.1, where `032` is 26, `yes` is true and `1:30` is 90. YAML 1.2 reads them as 32 and as two texts. Nobody can tell
which of them was meant, so such a value is refused. What YAML 1.1 takes for text (`1e-4`) stays text, from which a key that wants a number
reads it as YAML 1.2 does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from foreign.files import read_plain
from foreign.text import visible
from generators.errors import InputError

MAX_BYTES = 2**18  # PyYAML reads some 100 KB a second; lists of prompts have files of their own
MAX_DEPTH = 32
MAX_DIGITS = 30  # of a whole number
KeyPath = tuple[str | int, ...]

PREFIX = "tag:yaml.org,2002:"
KINDS = frozenset({f"{PREFIX}{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")})
NULL = re.compile(r"(~|null|Null|NULL|)\Z")
BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)\Z")
SWITCH = re.compile(r"(on|On|ON|off|Off|OFF)\Z")  # the text for a key that takes it (`safety: off`), and true or false for one of those
INT = re.compile(r"([-+]?[0-9]+|0x[0-9a-fA-F]+)\Z")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")
LEADING_ZERO = re.compile(r"[-+]?0[0-9]+\Z")
RESOLVER = yaml.SafeLoader("")  # PyYAML's own reading of plain values, for the comparison


def load(path: Path) -> tuple[Any, dict[KeyPath, int]]:
    """The plain data of a YAML file, and the line (from 1) of every key and item by its path.

    Raises InputError with the first thing that is wrong: see `read`.
    """
    data, lines, problems = read(path)
    if problems:
        raise problems[0]
    return data, lines


def load_mapping(path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """As `load`, of a file that is a mapping, or empty; its keys are texts. InputError for any other."""
    data, lines = load(path)
    if data is None:
        return {}, lines
    if not isinstance(data, dict):
        raise InputError(f"{visible(path)} is no mapping", "Write NAME: and its keys below, or remove the file")
    wrong = next((key for key in data if not isinstance(key, str)), None)
    if wrong is not None:
        raise InputError(f"{visible(path)}, line {line_of(lines, (wrong,))}: the key {wrong} is no text", "Quote it")
    return data, lines


def read(path: Path) -> tuple[Any, dict[KeyPath, int], list[Misread]]:
    """As `load`, with everything that is wrong with single keys and values, each an error that names line and key.

    Raises InputError if there are no data to go on with: the file cannot be read, is no YAML, is over 256 KiB, is nested more than 32
    deep, or uses anchors (a manifest that expands is hard to read and can be made to explode).
    """
    return parse(_text(path), str(path))


def parse(text: str, title: str) -> tuple[Any, dict[KeyPath, int], list[Misread]]:
    """As `read`, of a text. `title` is what errors call it."""
    if len(text) > MAX_BYTES:
        raise InputError(f"{title} has {len(text):,} characters", f"At most {MAX_BYTES:,} are read")
    try:
        node = _Bounded(text, title).get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = mark.line if mark else text.count("\n", 0, getattr(error, "position", 0))
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        raise InputError(f"{title}, line {at + 1} is not YAML: {what}", "Check indentation and brackets") from None
    reading = _Reading(title)
    data = None if node is None else reading.plain(node, ())
    return data, reading.lines, reading.problems


class _Bounded(yaml.SafeLoader):
    """PyYAML's loader, which says before it goes on if a document uses anchors or is nested too deep."""

    def __init__(self, text: str, title: str):
        super().__init__(text)
        self._title, self._depth = title, 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InputError(f"{self._title}, line {line} uses YAML anchors", "Write the values out")
        self._depth += 1
        if self._depth > MAX_DEPTH + isinstance(event, yaml.ScalarEvent):
            raise InputError(f"{self._title}, line {line} is nested more than {MAX_DEPTH} deep", "Close the brackets")
        try:
            node: yaml.Node | None = super().compose_node(parent, index)
            return node
        finally:
            self._depth -= 1


def line_of(lines: Mapping[KeyPath, int], at: KeyPath) -> int | None:
    """The line of the deepest part of a path that the file has."""
    for length in range(len(at), -1, -1):
        if at[:length] in lines:
            return lines[at[:length]]
    return None


def _text(path: Path) -> str:
    try:
        return read_plain(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"cannot read the manifest {path}: it is not UTF-8 text", "Check the path, and save it as UTF-8") from None


class Misread(InputError):
    """Something is wrong at one key or value of a YAML file: at the key path `at`, in `line`."""

    def __init__(self, message: str, fix: str, at: KeyPath, line: int | None):
        super().__init__(message, fix)
        self.at, self.line = at, line


class _Reading:
    """One document on its way to plain data: the lines seen so far, and what is wrong."""

    def __init__(self, title: str):
        self.title = title
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Misread] = []

    def plain(self, node: yaml.Node, at: KeyPath) -> Any:
        self.lines.setdefault(at, node.start_mark.line + 1)
        if node.tag not in KINDS and not (isinstance(node, yaml.ScalarNode) and node.style is None and node.tag.startswith(PREFIX)):
            self._wrong(node, at, f"has the tag {node.tag.replace(PREFIX, '!!')}, which is not read", "Write a plain value")
            return None
        if isinstance(node, yaml.MappingNode):
            return dict(self._entries(node, at))
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, (*at, index)) for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode):
            raise TypeError(f"YAML has no node {node}")
        try:
            return _value_of(node)
        except InputError as error:
            self._wrong(node, at, error.message, error.fix)
            return None

    def _entries(self, node: yaml.MappingNode, at: KeyPath) -> Iterator[tuple[str, Any]]:
        if not isinstance(node.value, list):  # a scalar under the tag !!map
            self._wrong(node, at, "is no mapping", "Write `key: value`")
            return
        seen: set[str] = set()
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(key_node, at, "has a key that is a list or a mapping", "A key is a name")
                continue
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in seen:
                self.problems.append(Misread(f"{self.title}, line {line}: the key {key!r} stands twice", "Keep one", (*at, key), line))
                continue
            seen.add(key)
            self.lines[(*at, key)] = line
            yield key, self.plain(value_node, (*at, key))

    def _wrong(self, node: yaml.Node, at: KeyPath, problem: str, fix: str) -> None:
        key = ".".join(map(str, at)) or "the document"
        line = node.start_mark.line + 1
        self.problems.append(Misread(f"{self.title}, line {line}: {key} {problem}", fix, at, line))


def _value_of(node: yaml.ScalarNode) -> Any:
    """The value of a scalar. Raises InputError whose message goes on from the key: "is ..."."""
    text = str(node.value)
    explicit = node.style is None and RESOLVER.resolve(yaml.ScalarNode, text, (True, False)) != node.tag
    if node.style is not None or explicit:
        if node.tag != f"{PREFIX}str":
            kind = node.tag.removeprefix(PREFIX)
            raise InputError(f"has the tag !!{kind}, which is not read", "Write a plain value")
        return text
    kind = node.tag.removeprefix(PREFIX)  # by YAML 1.1
    if NULL.match(text):
        return None
    if BOOL.match(text):
        return text.lower() == "true"
    if kind == "str" or SWITCH.match(text):
        return text
    if LEADING_ZERO.match(text):
        bare = re.sub(r"^([-+]?)0+(?=[0-9])", r"\1", text)
        raise InputError(f"is {text}, which YAML 1.1 and YAML 1.2 read differently", f'Write {bare}, or "{text}" if it is a text')
    if INT.match(text):
        if len(text) > MAX_DIGITS:
            raise InputError(f"has {len(text):,} digits", f"A number has at most {MAX_DIGITS}")
        return int(text, 16 if text[:2] == "0x" else 10)
    if NOT_FINITE.match(text) or (FLOAT.match(text) and not math.isfinite(float(text))):
        raise InputError(f"is {text[:MAX_DIGITS]}, which is no finite number", "Write a number")
    if FLOAT.match(text):
        return float(text)
    instead = "`true` or `false`" if kind == "bool" else "the plain number" if kind in ("int", "float") else "it in quotes"
    quoted = f', or "{text}" if it is a text' if kind != "timestamp" else ""
    raise InputError(f"is {text}, which YAML 1.1 and YAML 1.2 read differently", f"Write {instead}{quoted}")
