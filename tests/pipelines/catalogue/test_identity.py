"""A file's sha256 is computed once, and again as soon as the file has changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from generators.errors import CheckpointError
from pipelines.catalogue import identity


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))


def test_it_is_read_once_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    compute = identity.sha256_of
    monkeypatch.setattr(identity, "sha256_of", lambda path: (read.append(path), compute(path))[1])
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    for _ in range(3):
        assert identity.cached_sha256(file) == hashlib.sha256(b"one").hexdigest()
    assert read == [file]
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert identity.cached_sha256(file) == hashlib.sha256(b"two").hexdigest()
    assert read == [file, file]


def test_many_files_in_their_order(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "cab"]
    for file in files:
        file.write_text(file.name)
    assert identity.cached_sha256s(files) == [hashlib.sha256(name.encode()).hexdigest() for name in "cab"]


def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "sha256.json").write_text("{")
    assert identity.cached_sha256(file) == hashlib.sha256(b"one").hexdigest()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*gone"):
        identity.cached_sha256(tmp_path / "gone")
