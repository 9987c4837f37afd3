"""Threads convert the pictures of an import, and its order, names, hashes and refusals are those of one picture after the other."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators.errors import InputError
from pipelines.images import encode_uncompressed
from pipelines.importing import import_images, importing
from pipelines.importing.budget import Budget
from pipelines.importing.packed import PackedImage

COUNT, REFUSED = 23, {3, 4, 11}


def grey(number: int) -> bytes:
    """A picture that its own grey level tells; a larger one takes longer to convert."""
    side, out = 4 + 40 * (number % 3 == 0), io.BytesIO()
    Image.new("RGB", (side, side), (number, 2 * number, 200 - number)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(COUNT):
        (tmp_path / "in" / f"{number:02}.png").write_bytes(b"no picture" if number in REFUSED else grey(number))
    return tmp_path / "in"


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(("ahead", "ahead_bytes"), [(64, 2**26), (2, 2**26), (64, 1)])
def test_order_names_and_hashes(
    source: Path, tmp_path: Path, ahead: int, ahead_bytes: int, compress: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "PER_FOLDER", 10)
    monkeypatch.setattr(importing, "READ_AHEAD", ahead)
    monkeypatch.setattr(importing, "READ_AHEAD_BYTES", ahead_bytes)
    done = import_images(source, tmp_path / "out", "fake", "CC0", "x", compress=compress)
    kept = [number for number in range(COUNT) if number not in REFUSED]
    files = sorted(path.relative_to(done.folder).as_posix() for path in done.folder.rglob("*") if path.is_file())
    assert files == [f"{place // 10:04}/{place:08}.png" for place in range(len(kept))]
    assert sorted(path.name for path in done.folder.iterdir()) == ["0000", "0001"]  # none that the refused ones left empty
    assert [Image.open(done.folder / file).getpixel((0, 0)) for file in files] == [(n, 2 * n, 200 - n) for n in kept]
    with (tmp_path / "out" / "fake.csv").open() as stream:
        rows = [*csv.DictReader(stream)]
    assert [row["original"] for row in rows] == [f"{number:02}.png" for number in kept]
    assert [row["sha256"] for row in rows] == [hashlib.sha256(grey(number)).hexdigest() for number in kept]
    assert [row["file"] for row in rows] == files
    assert set(done.refused) == {f"{number:02}.png" for number in REFUSED}


def test_so_many_images_are_ahead_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read and not yet given out is bounded by number and by bytes."""
    asked = 0

    def packed() -> object:
        nonlocal asked
        for number in range(20):
            asked += 1
            yield PackedImage(f"{number}", grey(number))

    for ahead, length, least, most in ((3, 2**26, 3, 3), (64, 2**26, 20, 20), (64, 1, 1, 1), (64, 2 * len(grey(1)) + len(grey(3)), 3, 4)):
        monkeypatch.setattr(importing, "READ_AHEAD", ahead)
        monkeypatch.setattr(importing, "READ_AHEAD_BYTES", length)
        asked = given = 0
        folder = tmp_path / f"{ahead}-{length}"
        folder.mkdir()
        for image, _, answer in importing._converted(packed(), Budget(tmp_path, 1), folder, False):  # type: ignore[arg-type]
            assert min(least, 20 - given) <= asked - given <= most
            assert image.data is None and answer.result()
            given += 1
        assert given == 20


def test_a_disk_that_is_full_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name == "00000009.png":
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device"):
        import_images(source, tmp_path / "out", "real", "CC0", "x")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_uncompressed_pngs_have_three_bytes_a_pixel_and_the_same_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    data = encode_uncompressed(pixels)
    assert data == encode_uncompressed(pixels.copy())
    assert 3 * 31 * 17 <= len(data) <= 3 * 31 * 17 + 31 + 200
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
