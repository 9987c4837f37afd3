"""A file is whole or as it was: after a kill, with two writers at once, and after an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from generators.files import LEFTOVER_SECONDS, whole_file, whole_folder, write_bytes, write_json, write_text

# Writes half of a file or folder, says so, and waits to be killed.
HALF = """
import sys, time
from pathlib import Path
from generators.files import whole_file, whole_folder
place = Path(sys.argv[1])
with (whole_folder if place.suffix == "" else whole_file)(place) as partial:
    (partial / "half" if partial.is_dir() else partial).write_bytes(b"half")
    print("half", flush=True)
    time.sleep(600)
"""
# Writes the same name again and again, always with one letter.
AGAIN = """
import sys
from pathlib import Path
from generators.files import write_bytes
for _ in range(40):
    write_bytes(Path(sys.argv[1]), sys.argv[2].encode() * 300_000)
"""


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def killed_half_way(place: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HALF, str(place)], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert len(names(place.parent)) == 2, "the kill came while it was writing"


def make_old(folder: Path) -> None:
    for entry in folder.glob(".*.partial"):
        os.utime(entry, (0, entry.stat().st_mtime - LEFTOVER_SECONDS - 1))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_bytes(tmp_path / "bytes", b"\0\xff")
    write_text(tmp_path / "text", "ü\r\n")
    write_json(tmp_path / "json", {"a": [1, None]}, indent=1)
    assert (tmp_path / "bytes").read_bytes() == b"\0\xff"
    assert (tmp_path / "text").read_bytes() == b"\xc3\xbc\r\n"
    assert json.loads((tmp_path / "json").read_text()) == {"a": [1, None]}
    assert names(tmp_path) == {"bytes", "text", "json"}


def test_a_kill_leaves_the_old_file_and_the_next_writing_clears_up(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_text(file, "old")
    killed_half_way(file)
    assert file.read_text() == "old"
    write_text(file, "new")
    assert file.read_text() == "new"
    assert len(names(tmp_path)) == 2, "a fresh partial may be another machine's"
    make_old(tmp_path)
    write_text(file, "newer")
    assert names(tmp_path) == {"a.json"}


def test_a_kill_leaves_no_folder_and_the_next_writing_clears_up(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    killed_half_way(folder)
    assert names(folder) == set()
    make_old(tmp_path)
    with whole_folder(folder) as partial:
        (partial / "inside").mkdir()
        (partial / "inside" / "file").write_text("all")
    assert (folder / "inside" / "file").read_text() == "all"
    assert names(tmp_path) == {"export"}


def test_two_processes_that_write_one_name_leave_one_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "shared.bin"
    writers = [subprocess.Popen([sys.executable, "-c", AGAIN, str(file), letter]) for letter in "ab"]
    wholes = {b"a" * 300_000, b"b" * 300_000}
    while any(writer.poll() is None for writer in writers):
        if file.exists():
            assert file.read_bytes() in wholes
    assert [writer.wait() for writer in writers] == [0, 0]
    assert file.read_bytes() in wholes
    assert names(tmp_path) == {"shared.bin"}


def test_an_error_leaves_what_was_there_and_no_partial(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.txt", tmp_path / "folder"
    write_text(file, "old")
    with pytest.raises(KeyboardInterrupt), whole_file(file) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="no"), whole_folder(folder) as partial:
        (partial / "half").write_text("half")
        raise ValueError("no")
    with pytest.raises(TypeError):
        write_json(file, {1, 2})
    assert file.read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with pytest.raises(OSError, match="not empty"), whole_folder(tmp_path / "mine") as partial:
        (partial / "file").write_text("other")
    assert (tmp_path / "mine" / "file").read_text() == "mine"
    assert names(tmp_path) == {"mine"}


def test_weights_can_be_read_by_whoever_can_read_their_neighbours(tmp_path: Path) -> None:
    import torch

    from generators.checkpoints import write_safetensors

    (tmp_path / "neighbour").touch()
    write_safetensors(tmp_path / "model.safetensors", {"weight": torch.zeros(2)}, {})
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "neighbour").stat().st_mode
