"""Places that checkpoints cannot be written to, or that hold none: one line each, told from faults of the network."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from flows import program
from generators.errors import InputError
from pipelines.catalogue import fetching
from pipelines.catalogue.addresses import TransferError
from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry
from pipelines.catalogue.hub_files import _patiently
from pipelines.catalogue.lock import read_lock
from pipelines.catalogue.transfer import RETRIES
from tests.pipelines.catalogue.servers import Served, serving

BODY = bytes(range(256)) * 50


def catalogue(root: Path, **files: str) -> Catalogue:
    """Checkpoints by name, each with its `file`, and an address where nobody answers."""
    entries = {name: CheckpointEntry(file=file, licence="MIT", url="http://127.0.0.1:9/x") for name, file in files.items()}
    return Catalogue(entries, root)


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))


def test_an_empty_folder_and_a_name_that_no_file_can_have_are_missing(tmp_path: Path) -> None:
    own = catalogue(tmp_path, empty="empty", long="a" * 300, file="file", folder="folder")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "unet").mkdir(parents=True)
    assert fetching.absent(own.entries, own) == ["empty", "long"]


def test_one_place_that_cannot_be_written_keeps_nothing_else_from_coming(tmp_path: Path) -> None:
    folder = tmp_path / "ck"
    folder.mkdir()
    (folder / "taken").write_text("")
    with serving() as server:
        server.files["/w"] = Served(BODY)
        places = {"inside": "taken/w", "long": "a" * 300, "good": "w"}
        entries = {name: CheckpointEntry(file=file, licence="MIT", url=server.url("/w")) for name, file in places.items()}
        report = fetching.fetch(list(entries), Catalogue(entries, folder))
    assert [done.name for done in report.fetched] == ["good"]
    assert report.failed.keys() == {"inside", "long"}
    for name, line in report.failed.items():
        assert f"cannot write {folder / places[name]}: " in line, line
        assert "Check the folder" in line, line


def test_a_checkpoint_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write \S+file/ck: .*Check the folder"):
        fetching.fetch(["w"], catalogue(tmp_path / "file" / "ck", w="w"))


def test_a_full_disk_is_no_fault_of_the_hub() -> None:
    """It is said at once, where a connection that fails is tried again."""
    asked: list[int] = []

    def ask(error: OSError) -> None:
        asked.append(1)
        raise error

    with pytest.raises(TransferError, match=r"cannot write org/x: No space left on device\. Check the folder"):
        _patiently(lambda: ask(OSError(errno.ENOSPC, "No space left on device")), "org/x", (0.0,) * 9)
    assert len(asked) == 1
    with pytest.raises(TransferError, match="cannot be fetched"):
        _patiently(lambda: ask(ConnectionResetError(errno.ECONNRESET, "reset")), "org/x", (0.0,) * 9)
    assert len(asked) == 1 + RETRIES


def test_a_lock_of_a_later_release_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "lock.yaml").write_text(f"w: {{sha256: '{'0' * 64}', source: s, licence: l, fetched: f, signature: x}}\n")
    with pytest.raises(InputError, match=r"lock\.yaml, line 1: w\.signature: Extra inputs"):
        read_lock(tmp_path)


def test_a_fault_of_the_disk_is_one_line_whatever_command_meets_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: OSError) -> None:
        raise error

    monkeypatch.setattr(program, "app", lambda: fail(OSError(errno.EROFS, "Read-only file system", "/mnt/x")))
    assert program._run() == 2
    printed = capsys.readouterr().err
    assert "error: cannot use /mnt/x: Read-only file system. Fix: Check the folder" in printed
    assert printed.count("\n") == 1
    monkeypatch.setattr(program, "app", lambda: fail(FileNotFoundError(errno.ENOENT, "No such file", "lost")))  # a fault of ours
    with pytest.raises(FileNotFoundError):
        program._run()
