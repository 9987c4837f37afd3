"""A small package of huge flat pictures, or of very many images, is refused before it is decoded."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from foreign.errors import InputError
from pipelines.importing.budget import BYTES_PER_IMAGE, FREE_IMAGES, FREE_PIXELS, PIXELS_PER_BYTE, Budget, length_of
from pipelines.importing.importing import import_images
from pipelines.importing.packed import PackedImage

FACTS = ("real", "CC0", "me")


def flat(side: int) -> bytes:
    """A PNG of one colour with one bit a pixel: 8192 x 8192 px have 8 KB."""
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, "PNG")
    return stream.getvalue()


def as_zip(folder: Path, pictures: list[bytes]) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, data in enumerate(pictures):
            archive.writestr(f"{number}.png", data)
    return folder / "a.zip"


def as_tar(folder: Path, pictures: list[bytes]) -> Path:
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        for number, data in enumerate(pictures):
            entry = tarfile.TarInfo(f"{number}.png")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return folder / "a.tar.gz"


def as_parquet(folder: Path, pictures: list[bytes]) -> Path:
    pq.write_table(pa.table({"image": pictures}), folder / "a.parquet")
    return folder / "a.parquet"


def as_arrow(folder: Path, pictures: list[bytes]) -> Path:
    rows = pa.table({"image": pictures})
    (folder / "saved").mkdir()
    with pa.OSFile(str(folder / "saved" / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, rows.schema) as written:
        written.write_table(rows)
    return folder / "saved"


def as_lmdb(folder: Path, pictures: list[bytes]) -> Path:
    library = pytest.importorskip("lmdb")
    with library.open(str(folder / "base"), map_size=2**24) as database, database.begin(write=True) as writing:
        for number, data in enumerate(pictures):
            writing.put(b"%06d" % number, data)
    return folder / "base"


def as_folder(folder: Path, pictures: list[bytes]) -> Path:
    (folder / "pictures").mkdir()
    for number, data in enumerate(pictures):
        (folder / "pictures" / f"{number}.png").write_bytes(data)
    return folder / "pictures"


PACKS = [as_zip, as_tar, as_parquet, as_arrow, as_lmdb, as_folder]


@pytest.mark.parametrize("pack", PACKS)
def test_flat_pictures_of_many_pixels_are_refused_and_nothing_is_left(tmp_path: Path, pack: Callable[[Path, list[bytes]], Path]) -> None:
    source = pack(tmp_path, [flat(1024), *[flat(8192)] * 40])  # 2.7 billion pixels
    assert length_of(source) < 2**20
    with pytest.raises(InputError, match="unpacks to far more pixels than its length allows") as caught:
        import_images(source, tmp_path / "out", *FACTS)
    assert source.name in caught.value.message
    assert not list((tmp_path / "out").rglob("*.png"))


@pytest.mark.parametrize("pack", PACKS)
def test_ordinary_pictures_are_far_below(tmp_path: Path, pack: Callable[[Path, list[bytes]], Path]) -> None:
    noise = Image.frombytes("RGB", (40, 30), os.urandom(3600))
    stream = io.BytesIO()
    noise.save(stream, "JPEG", quality=20)
    source = pack(tmp_path, [stream.getvalue(), flat(1024)])
    assert import_images(source, tmp_path / "out", *FACTS).images == 2


def test_rows_without_end_are_refused(tmp_path: Path) -> None:
    """A hundred thousand empty rows have less than 10 KB."""
    pq.write_table(pa.table({"image": pa.array([b""] * 100_000)}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    with pytest.raises(InputError, match="far more images than its length allows"):
        import_images(tmp_path / "a.parquet", tmp_path / "out", *FACTS)


def test_the_bounds_themselves_are_allowed() -> None:
    budget = Budget(Path("a.zip"), 640)
    assert budget.pixels == FREE_PIXELS + 640 * PIXELS_PER_BYTE
    for _ in range(FREE_IMAGES + 640 // BYTES_PER_IMAGE):
        budget.spend(PackedImage("a", None))
    with pytest.raises(InputError, match=r"a\.zip has far more images"):
        budget.spend(PackedImage("a", None))
    exact = Budget(Path("a.zip"), 0)
    exact.pixels = 16
    exact.spend(PackedImage("a", flat(4)))
    with pytest.raises(InputError, match="far more pixels"):
        exact.spend(PackedImage("a", flat(1)))
