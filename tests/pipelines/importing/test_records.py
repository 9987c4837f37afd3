"""What an import writes beside its pictures, how many it takes, and what it says of the rest."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators.errors import InputError
from pipelines.importing import import_images

FACTS = ("fake", "CC0", "a share")


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (6, 4), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


def folder(path: Path, **files: bytes) -> Path:
    path.mkdir()
    for name, data in files.items():
        (path / name.replace("__", ".")).write_bytes(data)
    return path


def first_pixels(at: Path) -> list[int]:
    return [int(np.asarray(Image.open(file))[0, 0, 0]) for file in sorted(at.rglob("*.png"))]


@pytest.mark.parametrize(("limit", "values"), [(None, [1, 2, 3, 4]), (9, [1, 2, 3, 4]), (4, [1, 2, 3, 4]), (2, [1, 2]), (1, [1])])
def test_a_limit_takes_the_first_pictures_and_no_more(tmp_path: Path, limit: int | None, values: list[int]) -> None:
    source = folder(tmp_path / "in", a__txt=b"no picture", **{f"b{value}__png": png(value) for value in (1, 2, 3, 4)})
    done = import_images(source, tmp_path / "out", *FACTS, limit=limit)
    assert (done.images, first_pixels(done.folder), done.refused) == (len(values), values, {})


def test_records_name_each_picture_its_original_and_its_hash(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", x__png=png(7), y__jpg=b"no picture", z__heic=b"x", **{"=1+1__png": png(9)})
    done = import_images(source, tmp_path / "out", *FACTS)
    with (tmp_path / "out" / "fake.csv").open(newline="") as stream:
        rows = [*csv.reader(stream)]
    assert rows[0] == ["file", "original", "sha256"]
    assert [(row[0], row[2]) for row in rows[1:]] == [
        ("0000/00000000.png", hashlib.sha256(png(9)).hexdigest()),
        ("0000/00000001.png", hashlib.sha256(png(7)).hexdigest()),
    ]
    assert rows[2][1] == "x.png"
    assert rows[1][1].endswith("=1+1.png") and not rows[1][1].startswith("="), "no spreadsheet takes it for a formula"
    facts = json.loads((tmp_path / "out" / "fake.json").read_text())
    assert facts == {
        "kind": "folder",
        "licence": "CC0",
        "origin": "a share",
        "images": 2,
        "refused": done.refused,
        "left_out": {".heic": 1},
    }
    assert set(done.refused) == {"y.jpg"} and done.left_out == {".heic": 1}
    assert (done.identities, done.captions, done.unused) == (None, None, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fake", "fake.csv", "fake.json"]


def test_lines_of_the_list_that_name_no_picture_are_counted(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", a__png=png(1), b__png=png(2))
    people = tmp_path / "people.csv"
    people.write_text("a.png,Ann\nb.png,Bob\nc.png,Cy\nd.png,Di\n")
    done = import_images(source, tmp_path / "out", *FACTS, identities=people)
    assert done.unused == 2 and done.identities == tmp_path / "out" / "fake-identities.csv"
    assert done.identities.read_text().splitlines() == ["0000/00000000.png,Ann", "0000/00000001.png,Bob"]


def test_names_that_a_terminal_would_obey_are_written_without_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a\x1b[31m.png", png(1))
    import_images(tmp_path / "in.zip", tmp_path / "out", *FACTS)
    assert "a?[31m.png" in (tmp_path / "out" / "fake.csv").read_text()


@pytest.mark.parametrize(("licence", "origin"), [("", "a share"), (" ", "a share"), ("CC0", ""), ("CC0", "\t")])
def test_pictures_of_no_licence_or_origin_are_not_taken(tmp_path: Path, licence: str, origin: str) -> None:
    with pytest.raises(InputError, match=r"needs its licence and where it is from.*--licence and --origin"):
        import_images(folder(tmp_path / "in", a__png=png(1)), tmp_path / "out", "fake", licence, origin)
    assert not (tmp_path / "out").exists()


def test_the_two_labels_lie_beside_each_other_and_none_is_written_over(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", a__png=png(1))
    for label in ("real", "fake"):
        import_images(source, tmp_path / "out", label, "CC0", "x")
    with pytest.raises(InputError, match="is there already"):
        import_images(source, tmp_path / "out", "real", "CC0", "x")
    assert first_pixels(tmp_path / "out") == [1, 1]


def test_a_package_without_a_picture_says_what_it_has(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.png", png(1))
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("part1.zip", inner.getvalue())
        archive.writestr("part2.zip", inner.getvalue())
        archive.writestr("readme.txt", "two parts")
    with pytest.raises(
        InputError, match=r"3 files are left out \(1 \.txt, 2 \.zip\)\)\. Unpack it, and import one of the \.zip files in it"
    ):
        import_images(tmp_path / "outer.zip", tmp_path / "out", *FACTS)
    with pytest.raises(InputError, match=r"\(y\.jpg: .*no known format.*See the formats"):
        import_images(folder(tmp_path / "in", y__jpg=b"no picture"), tmp_path / "out", *FACTS)
    with pytest.raises(InputError, match="nothing in it: no file of a known image format"):
        import_images(folder(tmp_path / "empty"), tmp_path / "out", *FACTS)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_an_archive_beside_pictures_in_a_zip_is_counted_and_the_pictures_are_taken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("more.zip", b"PK")
        archive.writestr("a.png", png(1))
    done = import_images(tmp_path / "outer.zip", tmp_path / "out", *FACTS)
    assert (done.images, done.left_out) == (1, {".zip": 1})


def test_progress_counts_kibibytes_of_the_package_or_images_of_the_limit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), np.uint8)
    files = {f"{number}__png": _as_png(pixels).ljust(5120, b"\0") for number, pixels in enumerate(noise)}
    source = folder(tmp_path / "in", **files)
    lengths = [len(data) for data in files.values()]
    assert lengths == [5120] * 3  # five KiB to the byte
    told: list[tuple[int, int, str]] = []
    import_images(source, tmp_path / "out", *FACTS, on_progress=lambda *step: told.append(step))
    assert told == [
        (sum(lengths[: number + 1]) // 1024, sum(lengths) // 1024, f"KiB of the package, {number + 1} images") for number in range(3)
    ]
    told.clear()
    import_images(source, tmp_path / "some", *FACTS, limit=2, on_progress=lambda *step: told.append(step))
    assert told[:2] == [(1, 2, "images"), (2, 2, "images")] and told[-1] == (2, 2, "images")


def _as_png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
