"""YAML that remembers its lines, so that a wrong key can be pointed at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from generators.errors import InputError

MAX_BYTES = 4 * 2**20
KeyPath = tuple[str | int, ...]


def load(path: Path) -> tuple[Any, dict[KeyPath, int]]:
    """The plain data of a YAML file, and the line (from 1) of every key and item by its path.

    Raises InputError if the file cannot be read, is no YAML, is over 4 MiB, uses anchors (a manifest that expands is hard to read and can
    be made to explode) or repeats a key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the manifest {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}", "Check the path"
        ) from None
    if len(text) > MAX_BYTES:
        raise InputError(f"{path} has {len(text):,} characters", f"A manifest has at most {MAX_BYTES:,}")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InputError(f"{path} uses YAML anchors", "Write the values out")
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{path}{where} is not YAML: {getattr(error, 'problem', None) or 'it cannot be parsed'}", "Check indentation and brackets"
        ) from None
    lines: dict[KeyPath, int] = {}
    return (None if node is None else _plain(node, (), lines, path)), lines


def _plain(node: yaml.Node, at: KeyPath, lines: dict[KeyPath, int], path: Path) -> Any:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in mapping:
                raise InputError(f"{path}, line {line}: the key {key!r} stands twice", "Keep one")
            lines[(*at, key)] = line
            mapping[key] = _plain(value_node, (*at, key), lines, path)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*at, index), lines, path) for index, item in enumerate(node.value)]
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node)
    finally:
        loader.dispose()


def line_of(lines: dict[KeyPath, int], at: KeyPath) -> int | None:
    """The line of the deepest part of a path that the file has."""
    for length in range(len(at), -1, -1):
        if at[:length] in lines:
            return lines[at[:length]]
    return None
