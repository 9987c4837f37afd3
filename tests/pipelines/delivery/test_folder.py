"""Any folder of pictures, delivered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foreign.pictures import read_image
from generators.errors import InputError
from pipelines.audit import audit_folder
from pipelines.delivery.folder import INDEX, deliver_folder
from pipelines.manifest.deliveries import expanded
from tests.pipelines.delivery.test_steps import picture, steps_of

FEED = expanded(("feed",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("real", "fake"):
        (tmp_path / "in" / label).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(picture(seed=number + 10 * (label == "fake"))).save(tmp_path / "in" / label / f"{number}.png")
    return tmp_path / "in"


def files(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*") if file.name != INDEX}


def test_places_and_classes_stay_and_the_index_says_what_was_done(folder: Path, tmp_path: Path) -> None:
    done = deliver_folder(folder, tmp_path / "out", FEED)
    assert (done.pictures, done.unreadable) == (6, ())
    assert set(files(done.folder)) == {f"{label}/{number}.jpg" for label in ("real", "fake") for number in range(3)}
    head, *lines = map(json.loads, (done.folder / INDEX).read_text().splitlines())
    assert head["seed"] == 0
    assert {line["from"] for line in lines} == {f"{label}/{number}.png" for label in ("real", "fake") for number in range(3)}
    assert all(71 <= line["steps"][-1]["jpeg"] <= 95 for line in lines)


def test_a_picture_comes_out_the_same_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    first = files(deliver_folder(folder, tmp_path / "out", FEED).folder)
    (tmp_path / "other" / "deep").mkdir(parents=True)
    shutil.copy(folder / "fake" / "1.png", tmp_path / "other" / "deep" / "renamed.png")
    alone = files(deliver_folder(tmp_path / "other", tmp_path / "out2", FEED).folder)
    assert alone == {"deep/renamed.jpg": first["fake/1.jpg"]}
    moved = files(deliver_folder(folder, tmp_path / "out3", FEED, seed=1).folder)
    assert moved.keys() == first.keys()
    assert moved != first


def test_pictures_of_one_stem_do_not_overwrite_each_other(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(seed=7)).save(folder / "real" / "0.bmp")
    names = set(files(deliver_folder(folder, tmp_path / "out", FEED).folder))
    assert {"real/0.png.jpg", "real/0.bmp.jpg", "real/1.jpg"} <= names
    assert len(names) == 7


def test_what_cannot_be_read_is_named_and_the_rest_is_done(folder: Path, tmp_path: Path) -> None:
    (folder / "real" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (folder / "notes.txt").write_text("hello")
    done = deliver_folder(folder, tmp_path / "out", FEED)
    assert done.pictures == 5
    assert len(done.unreadable) == 1
    assert "real/1.png" in done.unreadable[0]
    assert "1 .txt" in done.left_out


def test_a_folder_is_delivered_whole_or_not_at_all(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures in"):
        deliver_folder(tmp_path / "empty", tmp_path / "out", FEED)
    with pytest.raises(InputError, match="no folder"):
        deliver_folder(tmp_path / "nowhere", tmp_path / "out", FEED)
    with pytest.raises(InputError, match="lies in"):
        deliver_folder(folder, folder / "out", FEED)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"no picture of .* can be read"):
        deliver_folder(tmp_path / "bad", tmp_path / "out", FEED)
    assert not (tmp_path / "out").exists()
    deliver_folder(folder, tmp_path / "out", FEED)
    with pytest.raises(InputError, match="is there already"):
        deliver_folder(folder, tmp_path / "out", FEED)
    assert np.array_equal(read_image(folder / "real" / "0.png"), picture(seed=0))


@pytest.mark.slow
def test_delivery_leaves_the_classes_alike_and_the_audit_tells_if_one_class_alone_was_shared(tmp_path: Path) -> None:
    """Sixty of each class from one source, in one encoding: alike as they are, alike when all are shared, told apart when the reals
    are."""
    for label in ("real", "fake"):
        (tmp_path / "in" / label).mkdir(parents=True)
        for number in range(60):
            pixels = picture(64, 64, seed=2 * number + (label == "fake"))
            Image.fromarray(pixels).save(tmp_path / "in" / label / f"{label}{number}.png")
    hard = expanded(("feed", "screenshot", "messenger"))
    shared = deliver_folder(tmp_path / "in", tmp_path / "shared", hard).folder
    audit = audit_folder(shared)
    assert audit.gate.passed, audit.gate.reason
    assert [verdict.name for verdict in audit.container if not verdict.passed] == []
    shutil.copytree(tmp_path / "in" / "fake", tmp_path / "planted" / "fake")
    shutil.copytree(shared / "real", tmp_path / "planted" / "real")
    planted = audit_folder(tmp_path / "planted")
    assert not planted.gate.passed
    assert {"format", "dimensions"} <= {verdict.name for verdict in planted.container if not verdict.passed}
    # The fakes brought to the reals' format, but without their history: the quality that the reals were shared with tells.
    once = deliver_folder(tmp_path / "in", tmp_path / "once", steps_of({"encode": {"jpeg": 100, "chroma": "4:4:4"}})).folder
    shutil.rmtree(tmp_path / "planted" / "fake")
    shutil.copytree(once / "fake", tmp_path / "planted" / "fake")
    told = {verdict.name for verdict in audit_folder(tmp_path / "planted").container if not verdict.passed}
    assert {"quantisation tables", "chroma subsampling"} <= told
