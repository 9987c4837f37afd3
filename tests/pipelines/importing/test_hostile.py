"""Archives and folders that ask for much, or name what is no file: one line each, at once."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from foreign.archives import FREE, RATIO, tar_members, zip_members
from generators.errors import InputError
from pipelines.importing.packages import open_package
from pipelines.manifest.load import load_manifest


def read(path: Path) -> list[str]:
    return [image.refusal for image in open_package(path)[1]]


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz"])
def test_a_tar_that_unpacks_to_far_more_is_stopped(tmp_path: Path, pack: str) -> None:
    file = tmp_path / "a.tar.gz"
    with tarfile.open(file, f"w:{pack}") as tar:
        for number in range(4):
            entry = tarfile.TarInfo(f"{number}.bin")
            entry.size = FREE // 2
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    assert file.stat().st_size * RATIO < FREE
    with pytest.raises(InputError, match="unpacks to far more"):
        read(file)


def test_a_zip_whose_members_overlap_or_swell_is_stopped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"{number}.png", bytes(FREE // 2))
    with pytest.raises(InputError, match="unpacks to far more"):
        list(zip_members(tmp_path / "a.zip", lambda _: True, 2**30))


@pytest.mark.parametrize("size", [2**40, 2**60])
def test_a_tar_of_made_up_size_ends(tmp_path: Path, size: int) -> None:
    entry = tarfile.TarInfo("a.bin")
    entry.size = size
    (tmp_path / "a.tar").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(InputError, match=r"a\.tar is damaged|a\.tar is cut short"):
        list(tar_members(tmp_path / "a.tar", lambda name: name.endswith(".png"), 2**28))


def test_lzma_and_unknown_methods_are_refused_by_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", b"x" * 100)
    with pytest.raises(InputError, match=r"a\.png is packed by method 14"):
        list(zip_members(tmp_path / "a.zip", lambda _: True, 2**28))


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.parquet", "m.yaml"])
def test_a_fifo_is_refused_by_name_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=f"{name} is a FIFO"):
        load_manifest(tmp_path / name) if name == "m.yaml" else read(tmp_path / name)
