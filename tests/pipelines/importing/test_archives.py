"""Archives and tables as others pack them: every picture with its own person, or one line; nothing lost without a word."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from generators.errors import InputError
from pipelines.importing import Imported, import_images
from pipelines.importing.packages import open_package
from pipelines.importing.packed import LeftOut, PackedImage

PICTURES = {f"{number:04d}": np.random.default_rng(number).integers(0, 255, (20, 30, 3), np.uint8) for number in range(6)}
PNGS = {key: cv2.imencode(".png", picture[..., ::-1])[1].tobytes() for key, picture in PICTURES.items()}
PERSON = {key: json.dumps({"identity": f"p{int(key) // 2}"}).encode() for key in PNGS}


def tar(path: Path, members: list[tuple[str, bytes]], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def samples(json_first: bool = False, prefix: str = "") -> list[tuple[str, bytes]]:
    pairs = [((f"{prefix}{key}.png", PNGS[key]), (f"{prefix}{key}.json", PERSON[key])) for key in PNGS]
    return [member for picture, facts in pairs for member in ((facts, picture) if json_first else (picture, facts))]


def images(path: Path, column: str | None = None) -> list[tuple[str, str | None]]:
    return [(item.name.split("/", 1)[1], item.identity) for item in open_package(path, column)[1] if isinstance(item, PackedImage)]


def left_out(path: Path, column: str | None = None) -> dict[str, int]:
    return {item.kind: item.count for item in open_package(path, column)[1] if isinstance(item, LeftOut)}


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        import_images(path, path.parent / "out", "real", "CC0", "x", **options)
    assert "\n" not in str(caught.value) and not (path.parent / "out" / "real").exists()
    return str(caught.value)


def brought(path: Path, **options: Any) -> Imported:
    return import_images(path, path.parent / "out", "real", "CC0", "x", **options)


@pytest.mark.parametrize("order", ["json after", "json before", "all json first", "all json last", "shuffled"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_keeps_identities_in_any_order_of_its_members(tmp_path: Path, order: str, mode: str) -> None:
    members = samples(json_first=order == "json before", prefix="./train/")
    if order.startswith("all"):
        members.sort(key=lambda member: member[0].endswith("json") != order.endswith("first"))
    if order == "shuffled":
        members = [members[index] for index in np.random.default_rng(0).permutation(len(members))]
    got = images(tar(tmp_path / "x.tar", members, mode))
    assert sorted(got) == [(f"./train/{key}.png", f"p{int(key) // 2}") for key in PNGS]


def test_further_fields_of_a_key_and_what_macs_add_are_left_out_and_counted(tmp_path: Path) -> None:
    further = [(f"{key}.{suffix}", PNGS[key]) for key in PNGS for suffix in ("mask.png", "cls")] + [
        (f"._{key}.png", b"\0\5\26\7") for key in PNGS
    ]
    path = tar(tmp_path / "x.tar", samples() + further)
    assert sorted(images(path)) == [(f"{key}.png", f"p{int(key) // 2}") for key in PNGS]
    assert left_out(path) == {".mask.png": 6, ".cls": 6, "hidden": 6}
    assert sorted(images(path, "mask.png")) == [(f"{key}.mask.png", f"p{int(key) // 2}") for key in PNGS]
    done = brought(path)
    assert (done.images, done.left_out) == (6, {".cls": 6, ".mask.png": 6, "hidden": 6})
    assert json.loads((tmp_path / "out" / "real.json").read_text())["left_out"] == done.left_out


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ([*samples(), ("0001.png", PNGS["0002"])], "0001.png twice"),
        ([*samples(), ("./0001.json", PERSON["0002"])], "0001.json twice"),
        ([*samples(), ("0001.jpg", PNGS["0002"])], "2 pictures of 0001: .png, .jpg"),
        ([*samples(), ("0009.mask.png", PNGS["0002"]), ("0009.depth.png", PNGS["0003"])], "2 pictures of 0009: .mask.png, .depth.png"),
        ([*samples()[:-1], ("0005.json", b"{")], "0005.json is not JSON"),
        ([*samples()[:-1], ("0005.json", b'{"identity": [1]}')], "0005.json: the identity [1] is neither"),
        ([*samples()[:-1], ("0005.json", b'{"identity": 1.0}')], "0005.json: the identity 1.0 is neither"),
        ([*samples()[:-1], ("0005.json", b'{"identity": true}')], "0005.json: the identity True is neither"),
        ([*samples()[:-1], ("0005.json", b'{"identity": "p1", "identity": "p2"}')], "the key 'identity' comes twice"),
        (samples()[:-1], "an identity for 5 images and none for 1"),
        ([*samples()[:-1], ("0005.json", b"{}" + b" " * 2**20)], "0005.json has"),
    ],
)
def test_a_tar_that_is_not_certain_is_refused(tmp_path: Path, members: list[tuple[str, bytes]], named: str) -> None:
    assert named in refusal(tar(tmp_path / "x.tar", members))


def test_the_suffix_to_take_holds_for_every_tar_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for shard in ("a", "b"):
        members = [(f"{shard}{key}{suffix}", PNGS[key]) for key in ("0001", "0002") for suffix in (".png", ".mask.png")]
        tar(tmp_path / "in" / f"{shard}.tar", members)
    for column, suffix in ((None, ".png"), ("png", ".png"), ("mask.png", ".mask.png"), (".MASK.png", ".mask.png")):
        assert images(tmp_path / "in", column) == [(f"{shard}{key}{suffix}", None) for shard in "ab" for key in ("0001", "0002")]


def test_links_and_facts_without_a_picture_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [*samples(), ("9999.json", PERSON["0000"]), ("9998.txt", b"a caption")])
    with tarfile.open(path, "a") as archive:
        for name, kind in (
            ("x.png", tarfile.LNKTYPE),
            ("y.png", tarfile.SYMTYPE),
            ("folder", tarfile.DIRTYPE),
            ("z.png", tarfile.FIFOTYPE),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "0000.png"
            archive.addfile(entry)
    assert [name for name, _ in images(path)] == [f"{key}.png" for key in PNGS]
    assert left_out(path) == {"link or device": 3, ".json without a picture": 1, ".txt without a picture": 1}


@pytest.mark.parametrize("harm", ["cut at a member", "cut in a member", "header", "no end"])
def test_a_tar_that_is_cut_off_or_damaged_loses_nothing_silently(tmp_path: Path, harm: str) -> None:
    path = tar(tmp_path / "x.tar", samples())
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        third = archive.getmembers()[4].offset
        last = archive.getmembers()[-1]
    if harm == "header":
        data[third + 150] ^= 0xFF
    cut = {"cut at a member": third, "cut in a member": third + 700, "no end": last.offset + 1024}.get(harm, len(data))
    path.write_bytes(bytes(data[:cut]))
    assert "x.tar is" in refusal(path)


def test_flipped_bits_of_a_packed_tar_are_found_at_its_end(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(tar(tmp_path / "y.tar", samples()).read_bytes(), 0))
    at = packed.find(PNGS["0002"][-30:-20])
    packed[at] ^= 1
    (tmp_path / "x.tar.gz").write_bytes(bytes(packed))
    assert "x.tar.gz is damaged" in refusal(tmp_path / "x.tar.gz")


def test_a_zip_with_a_name_twice_or_a_foreign_packing_or_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for key, data in PNGS.items():
            archive.writestr(f"a/{key}.png", data)
    whole = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a/0003.png", PNGS["0004"])
    assert "a/0003.png twice" in refusal(path)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        place = archive.infolist()[2].header_offset
    at = whole.index(b"PK\1\2")
    deflate64 = bytearray(whole)
    deflate64[at + 10] = 9  # the method of the first entry, in the directory
    path.write_bytes(bytes(deflate64))
    assert "packed by method 9" in refusal(path)
    flipped = bytearray(whole)
    flipped[place + 100] ^= 1
    path.write_bytes(bytes(flipped))
    assert "x.zip is damaged" in refusal(path)


def test_what_is_no_picture_in_a_zip_is_counted(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a/0.png", "__MACOSX/a/._0.png", "a/._0.png", "a/readme.txt", "a/b.heic", ".cache/x.png", "@eaDir/0.png"):
            archive.writestr(name, PNGS["0000"])
    assert left_out(tmp_path / "x.zip") == {"in __MACOSX": 1, "hidden": 1, ".txt": 1, ".heic": 1, "in a hidden folder": 1, "in @eaDir": 1}
    assert brought(tmp_path / "x.zip").images == 1


def test_packages_beside_pictures_or_of_two_kinds_are_not_chosen_between(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    tar(folder / "x.tar", samples())
    assert brought(folder).images == 6
    (folder / "a.png").write_bytes(PNGS["0000"])
    assert "1 .tar beside 1 picture" in refusal_of(folder)
    (folder / "a.png").unlink()
    pq.write_table(pa.table({"image": list(PNGS.values())}), folder / "y.parquet")
    assert "1 .tar beside 1 .parquet" in refusal_of(folder)
    (folder / "x.tar").unlink()
    (folder / "y.parquet").rename(folder / ".y.parquet")
    (folder / "z.zip").touch()
    assert "holds .zip files and no pictures" in refusal_of(folder)


def refusal_of(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_package(folder)
    return str(caught.value)


def test_a_parquet_that_only_names_its_pictures_or_has_two_columns_of_them_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metadata.parquet"
    pq.write_table(pa.table({"file_name": ["a.png"], "identity": ["p"]}), path)
    assert "only names its pictures, in `file_name`" in refusal(path)
    pq.write_table(pa.table({"photo": list(PNGS.values()), "mask": list(PNGS.values())}), path)
    assert "several columns of images: photo, mask" in refusal(path)
    assert brought(path, column="photo").images == 6


@pytest.mark.parametrize(
    ("people", "named"), [([1.0] * 6, "neither text nor"), (["a", None, "a", "a", "b", "b"], "5 images and none for 1")]
)
def test_a_parquet_with_doubtful_identities_is_refused(tmp_path: Path, people: list[Any], named: str) -> None:
    pq.write_table(pa.table({"image": list(PNGS.values()), "identity": people}), tmp_path / "x.parquet")
    assert named in refusal(tmp_path / "x.parquet")


def test_an_identity_list_is_read_as_all_lists_are_and_lines_too_many_are_counted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for key, data in PNGS.items():
        (tmp_path / "in" / f"{key}.png").write_bytes(data)
    os.mkfifo(tmp_path / "in" / "pipe.png")
    rows = "".join(f"{key}.png;Zoë{int(key) // 2}\r\n" for key in [*PNGS, "9999"])
    (tmp_path / "people.csv").write_bytes(rows.encode("utf-8-sig"))
    done = brought(tmp_path / "in", identities=tmp_path / "people.csv")
    assert (done.images, done.unused, done.left_out) == (6, 1, {"pipe or device": 1})
    assert done.identities is not None and "Zoë2" in done.identities.read_text()
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "people.csv").write_bytes(rows.encode(encoding))
        with pytest.raises(InputError, match=r"people\.csv.*UTF-8"):
            import_images(tmp_path / "in", tmp_path / "other", "real", "CC0", "x", tmp_path / "people.csv")
