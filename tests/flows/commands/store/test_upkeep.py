"""The commands that keep a store whole and small: what they print, and their exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines.store import Store

Run = Callable[..., tuple[int, str]]


def test_verify_ends_with_1_where_something_is_damaged(ntf: Run, store: Store) -> None:
    code, text = ntf("store", "verify", "fake", "--sample", "2", "--device", "cpu", "--version", "2")
    assert code == 0 and "2 bit-exact" in text
    file = Path(store.uri) / "data" / store.dataset().get_fragments()[0].metadata.files[0].path
    file.write_bytes(file.read_bytes()[:200])
    code, text = ntf("store", "verify", "fake")
    assert code == 1 and "bytes instead of" in text


def test_forget_and_gc(ntf: Run, store: Store) -> None:
    code, text = ntf("store", "forget", "fake", "--identity", "person3")
    assert code == 0 and "version 3 is without" in text
    assert ntf("store", "forget", "fake", "--identity", "person3")[0] == 2
    code, text = ntf("store", "gc", "fake", "--keep", "1")
    assert code == 0 and "versions 1, 2" in text
