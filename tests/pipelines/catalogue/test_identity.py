"""A file's sha256 is computed once, and again as soon as the file has changed."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from generators.errors import CheckpointError, InputError
from pipelines.catalogue import catalogue, identity, lock
from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry


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


def _pipeline(folder: Path) -> Path:
    for name, text in {
        "model_index.json": '{"unet": ["d", "U"]}',
        "unet/config.json": "{}",
        "unet/model.safetensors": "w",
        "README.md": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_folder_is_hashed_once_and_by_the_files_that_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    compute = identity.sha256_of
    monkeypatch.setattr(identity, "sha256_of", lambda path: (hashed.append(path.name), compute(path))[1])
    folder = _pipeline(tmp_path / "p")
    first = identity.cached_sha256(folder)
    assert first == compute(folder)
    (folder / "README.md").write_text("changed")
    assert identity.cached_sha256(folder) == first
    assert hashed == ["model_index.json", "config.json", "model.safetensors"]
    (folder / "unet" / "config.json").write_text('{"a": 1}')
    assert identity.cached_sha256(folder) != first
    assert hashed[3:] == ["config.json"]  # and nothing else again


def test_what_another_process_noted_in_between_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for file in (ours, theirs):
        file.write_text(file.name)
    compute = identity.sha256_of

    def meanwhile(path: Path) -> str:
        monkeypatch.setattr(identity, "sha256_of", compute)
        identity.cached_sha256(theirs)
        return compute(path)

    monkeypatch.setattr(identity, "sha256_of", meanwhile)
    identity.cached_sha256(ours)
    monkeypatch.setattr(identity, "sha256_of", lambda path: pytest.fail(f"{path} is hashed again"))
    assert identity.cached_sha256s([ours, theirs])


def test_a_sum_that_is_known_already_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    identity.remember({file: "ab" * 32})
    monkeypatch.setattr(identity, "sha256_of", lambda path: pytest.fail(f"{path} is hashed"))
    assert identity.cached_sha256(file) == "ab" * 32


def test_making_images_asks_for_no_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue asks once for each checkpoint; each image's row then asks the catalogue."""
    _pipeline(tmp_path / "p")
    entry = CheckpointEntry(file="p", licence="test")
    own = Catalogue({"ck": entry, "other": CheckpointEntry(file="p", licence="test", components={"part": "ck"})}, tmp_path)
    first = own.identity("other")
    asked: list[Path] = []
    monkeypatch.setattr(catalogue, "cached_sha256", asked.append)
    assert [own.identity("other") for _ in range(100)] == [first] * 100
    assert asked == []


def test_what_differs_from_the_lock_is_an_error(tmp_path: Path) -> None:
    _pipeline(tmp_path / "p")
    entries = {"ck": CheckpointEntry(file="p", licence="test")}
    lock.add_to_lock(
        tmp_path, "p", lock.Locked(sha256=identity.cached_sha256(tmp_path / "p"), source="here", licence="test", fetched="now")
    )
    locked = {file: entry.sha256 for file, entry in lock.read_lock(tmp_path).items()}
    assert Catalogue(entries, tmp_path, locked).sha256("ck") == locked["p"]
    (tmp_path / "p" / "unet" / "config.json").write_text('{"a": 1}')
    with pytest.raises(CheckpointError, match=r"p is not what was fetched.*lock\.yaml"):
        Catalogue(entries, tmp_path, locked).sha256("ck")


def test_a_wrong_line_in_the_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock.yaml").write_text("a.pkl:\n  sha256: nonsense\n  source: x\n  licence: y\n  fetched: z\n")
    with pytest.raises(InputError, match=r"lock\.yaml, line 2: a\.pkl"):
        Catalogue.shipped(tmp_path)


def test_what_many_note_at_once_is_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several files are fetched at once, and each thread notes its own."""
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    files = [tmp_path / f"{number}.bin" for number in range(24)]
    for file in files:
        file.write_bytes(file.name.encode())
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda file: identity.remember({file: f"sum of {file.name}"}), files))
    monkeypatch.setattr(identity, "sha256_of", lambda path: pytest.fail(f"{path} is hashed again"))
    assert identity.cached_sha256s(files) == [f"sum of {file.name}" for file in files]
