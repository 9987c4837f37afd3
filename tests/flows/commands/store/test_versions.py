"""The commands over versions: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable

Run = Callable[..., tuple[int, str]]


def test_diff_and_checkout(ntf: Run) -> None:
    code, text = ntf("store", "diff", "fake", "1", "2", "--json")
    changed = {entry["subset"]: entry for entry in json.loads(text)}
    assert code == 0 and changed.keys() == {"Swapped", "Chained"}
    assert changed["Swapped"]["replaced"] == 8 and changed["Swapped"]["causes"][0]["kind"] == "checkpoint"
    assert ntf("store", "diff", "fake", "1", "nothing")[0] == 2
    assert ntf("store", "tag", "fake", "first", "--version", "1")[0] == 0
    code, text = ntf("store", "checkout", "fake", "first")
    assert code == 0 and "version 3 has the rows of version 1" in text
    assert "no difference" in ntf("store", "diff", "fake", "first", "3")[1]
