"""Bringing images in from every package, and what is refused at the door."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from generators.errors import InputError
from pipelines.importing import Imported, import_images
from pipelines.manifest.schema import RealSource, Splits
from pipelines.plan.reals import open_pool

PICTURES = [np.random.default_rng(number).integers(0, 255, (20, 30, 3), np.uint8) for number in range(5)]
NAMES = [f"a/{number}.png" for number in range(5)]


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def brought(source: Path, output: Path, **options: object) -> Imported:
    return import_images(source, output, "real", "CC0", "somewhere", **options)  # type: ignore[arg-type]


def pixels_of(done: Imported) -> list[np.ndarray]:
    return [np.asarray(Image.open(file)) for file in sorted(done.folder.rglob("*.png"))]


def as_folder(path: Path, reverse: bool = False) -> Path:
    for name, picture in zip(NAMES, PICTURES, strict=True):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(png(255 - picture if reverse else picture))
    return path


def as_zip(path: Path) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for name, picture in zip(NAMES, PICTURES, strict=True):
            archive.writestr(name, png(picture))
    return path.with_suffix(".zip")


def as_lmdb(path: Path) -> Path:
    library = pytest.importorskip("lmdb")
    with library.open(str(path), map_size=2**20) as database, database.begin(write=True) as transaction:
        for name, picture in zip(NAMES, PICTURES, strict=True):
            lossless = io.BytesIO()
            Image.fromarray(picture).save(lossless, "WEBP", lossless=True)
            transaction.put(name.encode(), lossless.getvalue())
    return path


def as_parquet(path: Path) -> Path:
    image = [{"bytes": png(picture), "path": name} for name, picture in zip(NAMES, PICTURES, strict=True)]
    path.mkdir()
    pq.write_table(pa.table({"text": NAMES, "image": image, "identity": [1, 1, 2, 2, 3]}), path / "train-00000.parquet")
    return path


def as_saved_dataset(path: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    images = [Image.fromarray(picture) for picture in PICTURES]
    datasets.Dataset.from_dict({"image": images}, features=datasets.Features({"image": datasets.Image()})).save_to_disk(str(path))
    return path


def as_webdataset(path: Path) -> Path:
    with tarfile.open(path.with_suffix(".tar"), "w") as archive:
        for number, picture in enumerate(PICTURES):
            for suffix, data in (("cls", b"0"), ("png", png(picture)), ("json", json.dumps({"identity": f"p{number // 2}"}).encode())):
                entry = tarfile.TarInfo(f"{number:04d}.{suffix}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return path.with_suffix(".tar")


@pytest.mark.parametrize("pack", [as_folder, as_zip, as_lmdb, as_parquet, as_saved_dataset, as_webdataset])
def test_every_package_gives_the_same_pixels(pack: Callable[[Path], Path], tmp_path: Path) -> None:
    done = brought(pack(tmp_path / "in"), tmp_path / "out")
    assert all(np.array_equal(got, wanted) for got, wanted in zip(pixels_of(done), PICTURES, strict=True))
    facts = json.loads((tmp_path / "out" / "real.json").read_text())
    assert (facts["licence"], facts["origin"], facts["images"], facts["refused"]) == ("CC0", "somewhere", 5, {})
    pool = open_pool("mine", RealSource(path=done.folder, licence="CC0", identities=done.identities), Splits(), 10)
    assert len(pool.images) == 5
    if pack in (as_parquet, as_webdataset):
        assert len({image.identity for image in pool.images}) == 3


def test_identities_come_from_a_list(tmp_path: Path) -> None:
    source = as_zip(tmp_path / "in")
    (tmp_path / "people.csv").write_text("\n".join(f"{name},p{number % 2}" for number, name in enumerate(NAMES)))
    done = brought(source, tmp_path / "out", identities=tmp_path / "people.csv")
    pool = open_pool("mine", RealSource(path=done.folder, licence="CC0", identities=done.identities), Splits(), 10)
    assert {image.identity for image in pool.images} == {"p0", "p1"}
    (tmp_path / "people.csv").write_text(f"{NAMES[0]},p")
    with pytest.raises(InputError, match="has no identity for"):
        brought(source, tmp_path / "other", identities=tmp_path / "people.csv")
    assert not (tmp_path / "other" / "real").exists()


def test_exif_turns_the_picture_and_then_goes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera that tells"
    Image.fromarray(PICTURES[0]).save(tmp_path / "in" / "a.jpg", exif=exif, quality=95)
    (got,) = (file for file in brought(tmp_path / "in", tmp_path / "out").folder.rglob("*.png"))
    with Image.open(got) as opened:
        assert opened.size == (20, 30) and not opened.getexif() and b"camera" not in got.read_bytes()


def huge_png() -> bytes:
    """100,000 x 100,000 px in a few bytes."""
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_what_is_no_image_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.importing.packages.MAX_BYTES", 200_000)
    bad = {
        "bomb.png": huge_png(),
        "long.png": bytes(3_000_000),  # 3 kB packed
        "text.jpg": b"<html>",
        "vector.png": b"%!PS-Adobe-3.0 EPSF-3.0\n",  # a format that Pillow would run Ghostscript for
        "cut.png": png(PICTURES[0])[:300],
        "../../escape.png": png(PICTURES[1]),
        "/etc/absolute.png": png(PICTURES[2]),
    }
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in bad.items():
            archive.writestr(name, data)
    done = brought(tmp_path / "in.zip", tmp_path / "deep" / "out")
    assert set(done.refused) == {"bomb.png", "long.png", "text.jpg", "vector.png", "cut.png"}
    assert [file.relative_to(done.folder).as_posix() for file in sorted(done.folder.rglob("*.png"))] == [
        "0000/00000000.png",
        "0000/00000001.png",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"in.zip", "deep"} and not list(tmp_path.rglob("*escape*"))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    as_folder(tmp_path / "in")
    (tmp_path / "secret.png").write_bytes(png(PICTURES[0]))
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "secret.png")
    assert brought(tmp_path / "in", tmp_path / "out").refused == {"link.png": "a link out of the folder"}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.parquet"])
def test_damaged_packages_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is something else entirely" * 50)
    with pytest.raises(InputError, match=name):
        brought(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out" / "real").exists()


def test_imports_need_a_licence_an_image_and_a_new_folder(tmp_path: Path) -> None:
    source = as_folder(tmp_path / "in")
    with pytest.raises(InputError, match="licence"):
        import_images(source, tmp_path / "out", "real", " ", "x")
    brought(source, tmp_path / "out")
    with pytest.raises(InputError, match="is there already"):
        brought(source, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image"):
        brought(tmp_path / "empty", tmp_path / "none")
    with pytest.raises(InputError, match="there is no"):
        brought(tmp_path / "nowhere", tmp_path / "none")


def test_foreign_fakes_and_reals_make_a_folder_to_evaluate_on(tmp_path: Path) -> None:
    from ntf_model.data.data import from_folders

    for label in ("real", "fake"):
        source = as_folder(tmp_path / label, reverse=label == "fake")
        import_images(source, tmp_path / "out", label, "CC0", "x")  # type: ignore[arg-type]
    splits = from_folders(tmp_path / "out", fractions=(0.4, 0.4))
    assert sum(len(split) for split in splits) == 10
