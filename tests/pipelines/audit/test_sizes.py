"""Versions of pictures of several sizes: dimensions are judged on all of them, and the rest at equal dimensions."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.audit import Audit, audit_folder, audit_version
from pipelines.audit.families import APPEARANCE, DIMENSIONS
from pipelines.audit.pictures import HEADERS, measured, pictures_of_folder
from pipelines.make.rows import Picture
from pipelines.manifest.schema import Codec
from pipelines.store import Row, Store

SIZES = ((32, 32), (40, 32), (48, 40))


def rows(fake_sizes: tuple[tuple[int, int], ...], shared: int) -> Iterator[Row]:
    """Sixty reals of three sizes, and sixty fakes: `shared` of the reals' sizes, the rest of `fake_sizes`."""
    for label in (0, 1):
        for number in range(60):
            height, width = SIZES[number % 3] if not label or number < shared else fake_sizes[number % len(fake_sizes)]
            pixels = np.random.default_rng([label, number]).integers(0, 255, (height, width, 3), np.uint8)
            name = f"Made/r/{number:06d}/0" if label else f"real/r/{number:06d}"
            role, subset, kind = ("final", "Made", "GAN") if label else ("real", "r", "real")
            row = Row(name, role, label, subset, "r", kind, kind, number, "train", f"{label}-{number}", f"key{label}", "CC0")
            yield Picture(row, pixels).encoded(Codec())


def stored(folder: Path, fake_sizes: tuple[tuple[int, int], ...], shared: int) -> Store:
    store = Store(folder, "sizes")
    everything = list(rows(fake_sizes, shared))
    with store.building():
        for label in (0, 1):
            store.write_shard(f"key{label}", "a shard", [row for row in everything if row.label == label])
        store.commit(["key0", "key1"], "run")
    return store


CASES = pytest.mark.parametrize(
    ("fake_sizes", "shared", "is_open", "judged"),
    [(SIZES, 60, True, 120), (((64, 64),), 30, False, 60), (((64, 64),), 0, False, 120)],
)


def check(audit: Audit, shared: int, is_open: bool, judged: int) -> None:
    """The audit judged so many pictures, and dimensions tell unless it is open; where some are shared, nothing else does."""
    assert audit.rows == judged
    told = {verdict.name for verdict in audit.container if not verdict.passed}
    assert (DIMENSIONS not in told) == is_open == audit.gate.passed
    if shared:
        assert told <= {DIMENSIONS}
        assert f"dimensions of 120 images; the rest of {judged} of equal ones" in audit.gate.reason


@CASES
def test_dimensions_tell_where_the_classes_have_others(
    tmp_path: Path, fake_sizes: tuple[tuple[int, int], ...], shared: int, is_open: bool, judged: int
) -> None:
    """With half of the sizes in common the dimensions still tell, and the rest is judged where they are equal."""
    audit = audit_version(stored(tmp_path, fake_sizes, shared))
    check(audit, shared, is_open, judged)


def written(folder: Path, fake_sizes: tuple[tuple[int, int], ...], shared: int, by_size: bool = False) -> Path:
    """The same pictures as files in `real/` and `fake/`. With `by_size` the smallest size is dark, whichever class it is of."""
    for row in rows(fake_sizes, shared):
        pixels = np.asarray(Image.open(io.BytesIO(row.image or b"")))
        file = folder / ("fake" if row.label else "real") / f"{row.index:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels // 4 if by_size and pixels.shape[:2] == SIZES[0] else pixels).save(file)
    return folder


@CASES
def test_a_folder_is_judged_as_a_version_is(
    tmp_path: Path, fake_sizes: tuple[tuple[int, int], ...], shared: int, is_open: bool, judged: int
) -> None:
    audit = audit_folder(written(tmp_path, fake_sizes, shared))
    check(audit, shared, is_open, judged)


def test_what_depends_on_the_size_alone_does_not_tell_in_a_folder(tmp_path: Path) -> None:
    """Most fakes, and few reals, are small, and small pictures are dark: at equal dimensions that tells nothing."""
    audit = audit_folder(written(tmp_path, (SIZES[0],), 30, by_size=True))
    (dimensions,) = [verdict for verdict in audit.container if verdict.name == DIMENSIONS]
    (look,) = [verdict for verdict in audit.traces if verdict.name == APPEARANCE]
    assert not dimensions.passed
    assert look.passed


def test_dimensions_are_those_of_the_upright_picture_and_are_read_of_so_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    for label in ("real", "fake"):
        (tmp_path / label).mkdir()
        for number in range(5):
            picture = Image.new("RGB", (30, 20))
            picture.save(tmp_path / label / f"{number}.jpg", **({"exif": exif} if number else {}))
    known = measured(pictures_of_folder(tmp_path))
    assert {picture.id: picture.dimensions for picture in known} == {
        f"{label}/{number}.jpg": (20, 30) if number else (30, 20) for label in ("real", "fake") for number in range(5)
    }
    assert HEADERS >= 200
    monkeypatch.setattr("pipelines.audit.pictures.HEADERS", 2)
    assert len(measured(pictures_of_folder(tmp_path))) == 4
