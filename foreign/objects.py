"""JSON objects of strangers, in which no key comes twice."""

from __future__ import annotations

import json
from typing import Any


def read_object(data: bytes) -> Any:
    """What JSON says, as UTF-8 with or without a byte order mark, or as UTF-16.

    Raises ValueError for what is no JSON, is nested too deeply, or has a key twice: which of its values is meant is not certain, and the
    library would take the last.
    """
    try:
        return json.loads(data, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} comes twice")
    return values
