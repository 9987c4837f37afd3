"""registered.yaml, lock.yaml and what lies beside checkpoints may come along with a folder from a stranger."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreign.json_files import read_json
from generators.checkpoints import sha256_of
from generators.errors import InputError
from pipelines.catalogue.catalogue import _read_entries
from pipelines.catalogue.lock import LOCK_FILE, read_lock
from pipelines.catalogue.registering import read_registration

TEXTS = {
    "a list": b"- a\n- b\n",
    "a number": b"5\n",
    "a key that is a number": b"7: {file: x}\n",
    "depth": b"a: " + b"[" * 3_000 + b"]" * 3_000,
    "a tag": b"a: !!python/object/apply:os.system [x]\n",
    "an anchor": b"a: &a [*a]\n",
    "a NUL": b"a: \0\n",
    "no UTF-8": b"a: \xff\xfe\x80\n",
    "a huge number": b"a: {file: x, licence: " + b"9" * 5_000 + b"}\n",
    "a terminal's commands": b'"\\e[2J": {file: 3}\n',
    "too long": b"a: x\n" * 100_000,
}
READERS: dict[str, Callable[[Path], Any]] = {
    "registered.yaml": _read_entries,
    LOCK_FILE: lambda file: read_lock(file.parent),
    "x.pt.yaml": read_registration,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("name", READERS)
def test_hostile_yaml_is_one_line(tmp_path: Path, name: str, text: bytes) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(InputError) as caught:
        READERS[name](tmp_path / name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2_500


@pytest.mark.parametrize("read", [read_json, sha256_of, _read_entries, read_registration])
def test_what_is_no_plain_file_is_never_waited_for(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "circle").symlink_to("circle")
    for name, what in (("pipe", "is a FIFO"), ("link", "is a FIFO"), ("circle", "symbolic links|no file")):
        with pytest.raises((InputError, OSError), match=what):
            read(tmp_path / name)
    with pytest.raises(InputError, match="is a device"):
        read(Path("/dev/zero"))


@pytest.mark.parametrize("data", [b"[" * 100_000, b"9" * 10_000, b"\xff\xfe", b"", b'{"a": "\x1b[2J"', b"\0"])
def test_hostile_json_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "run\x1b[2J.json").write_bytes(data)
    with pytest.raises(InputError, match="is not JSON") as caught:
        read_json(tmp_path / "run\x1b[2J.json")
    assert str(caught.value).isprintable()


def test_json_of_a_stated_length_at_most(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"[1]  ")
    assert read_json(tmp_path / "a.json", 5) == [1]
    with pytest.raises(InputError, match="has 5 bytes"):
        read_json(tmp_path / "a.json", 4)
