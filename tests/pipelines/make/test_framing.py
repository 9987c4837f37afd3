"""Windows that are cut and not resampled, and pictures of their own sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from generators.errors import InputError
from pipelines.build.build import run_build, status
from pipelines.errors import CheckFailed
from pipelines.examine.verify import verify
from pipelines.images import decode
from pipelines.make import rejections
from pipelines.make.framing import Unfit, frame_of
from pipelines.make.jobs import plan_jobs
from pipelines.manifest.load import load_manifest
from pipelines.manifest.sizes import Crop
from pipelines.plan.plan import Plan, make_plan
from pipelines.store import Row, Store
from tests.pipelines.store.fakes import SIDE, fake_dataset, fake_generators, planned, write


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Reals of 40 x 30 px, and one of 12 px; fakes of 16 px from the fake sampler, and swaps as large as their targets."""
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    path = fake_dataset(tmp_path / "data", count=4)
    for number, file in enumerate(sorted((tmp_path / "data" / "reals").glob("*.png"))):
        shape = (12, 12, 3) if number == 5 else (40, 30 + number % 3, 3)
        cv2.imwrite(str(file), np.random.default_rng(number).integers(0, 255, shape, np.uint8))
    with fake_generators():
        yield path


def changed(manifest: Path, **keys: Any) -> Path:
    return write(manifest, {**yaml.safe_load(manifest.read_text()), **keys})


def sources(plan: Plan) -> dict[str, np.ndarray]:
    return {image.id: image.load() for image in plan.pools["people"].images}


def rows_of(plan: Plan, tmp_path: Path) -> tuple[Store, list[Row]]:
    store = Store(tmp_path / "store", "fake")
    run_build(plan, store, "cpu")
    return store, store.rows(images=True)


@given(st.integers(16, 60), st.integers(16, 60), st.integers(0, 2**62))
def test_a_window_lies_inside_and_a_seed_moves_it(height: int, width: int, seed: int) -> None:
    for at in ("centre", "seed"):
        frame = frame_of((height, width, 3), Crop(crop=16, at=at), seed)
        picture = np.arange(height * width, dtype=np.int64).reshape(height, width)
        cut = frame.of(picture)
        assert cut.shape == (16, 16)
        assert np.array_equal(cut, picture[frame.top : frame.top + 16, frame.left : frame.left + 16])
    assert (frame_of((height, width), Crop(crop=16), 0).top, frame_of((height, width), Crop(crop=16), 0).left) == (
        (height - 16) // 2,
        (width - 16) // 2,
    )


def test_a_seed_reaches_every_place() -> None:
    places = {(frame.top, frame.left) for frame in (frame_of((18, 17), Crop(crop=16, at="seed"), seed) for seed in range(200))}
    assert places == {(top, left) for top in range(3) for left in range(2)}


@pytest.mark.parametrize(("shape", "size"), [((15, 40), Crop(crop=16)), ((15, 40), "native"), ((4097, 16), "native")])
def test_a_picture_of_the_wrong_size_has_no_frame(shape: tuple[int, int], size: Any) -> None:
    with pytest.raises(Unfit):
        frame_of(shape, size, 0)


@pytest.mark.parametrize("at", ["centre", "seed"])
def test_no_pixel_of_a_crop_is_resampled(manifest: Path, tmp_path: Path, at: str) -> None:
    """Every stored real is a window of its file, byte by byte; what is too small is in the ledger, and does not fail the build."""
    plan = planned(changed(manifest, size={"crop": SIDE, "at": at}))
    store, rows = rows_of(plan, tmp_path)
    pictures, reals = sources(plan), [row for row in rows if row.role == "real"]
    places = set()
    for row in reals:
        picture, stored = pictures[row.id], decode(row.image or b"", row.id)
        assert stored.shape == (SIDE, SIDE, 3)
        windows = np.lib.stride_tricks.sliding_window_view(picture, (SIDE, SIDE, 3))[:, :, 0]
        found = np.argwhere((windows == stored).all((2, 3, 4)))
        assert len(found) == 1
        places.add(tuple(found[0] - (np.array(picture.shape[:2]) - SIDE) // 2))
    assert len(reals) == 23
    assert (places == {(0, 0)}) == (at == "centre")
    (rejected,) = [row for row in rows if row.role == "rejected" and row.label == 0]
    assert (rejected.reason, rejected.image) == (rejections.TOO_SMALL, None)
    assert {row.width for row in rows if row.role == "final"} == {SIDE}
    assert status(plan, store).missing == ()
    assert set(verify(store, sample=4).remade.values()) == {"bit-exact"}


def test_what_is_made_of_a_real_image_shows_the_same_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reconstruction is given pixels around the real's window, unresampled, and is cut where the real is; so is what follows it."""
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    edit = {"edit": "vqgan", "checkpoint": "vqgan-demo-32"}
    subsets = {"Once": [{**edit, "target": "faces"}], "Twice": [{**edit, "target": "faces"}, edit]}
    (tmp_path / "faces").mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        small = Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8))  # Pillow rounds alike on any processor
        small.resize((70 + number, 60), Image.Resampling.BICUBIC).save(tmp_path / "faces" / f"{number}.png")
    data = {
        "dataset": "fake",
        "size": {"crop": 24, "at": "seed"},
        "audit": {"gate": False},
        "reals": {"faces": {"path": "faces", "licence": "test"}},
        "subsets": {name: {"count": 4, "real": "faces", "chain": chain} for name, chain in subsets.items()},
    }
    plan = make_plan(load_manifest(write(tmp_path / "m.yaml", data)))
    _, rows = rows_of(plan, tmp_path)
    by_id = {row.id: row for row in rows}
    images = {image.id: image for image in plan.pools["faces"].images}
    finals = [row for row in rows if row.role == "final"]
    assert len(finals) == 8
    for row in finals:
        target = images[row.chain[0]["target"]]
        top, left = row.measures["cut_at"]
        window = target.load()[top : top + 24, left : left + 24]
        stored = decode(row.image or b"", row.id)
        assert window.shape == stored.shape == (24, 24, 3)
        if target.id in by_id and by_id[target.id].role == "real":
            assert np.array_equal(window, decode(by_id[target.id].image or b"", target.id))
        aligned = np.corrcoef(window.ravel(), stored.ravel())[0, 1]
        moved = np.corrcoef(np.roll(window, 6, (0, 1)).ravel(), stored.ravel())[0, 1]
        assert aligned > moved


def test_pictures_of_their_own_sizes_stand_in_one_version(manifest: Path, tmp_path: Path) -> None:
    plan = planned(changed(manifest, size="native"))
    store, rows = rows_of(plan, tmp_path)
    pictures = sources(plan)
    reals = [row for row in rows if row.role == "real"]
    for row in reals:
        assert np.array_equal(decode(row.image or b"", row.id), pictures[row.id])
    assert {(row.height, row.width) for row in reals} == {(40, 30), (40, 31), (40, 32)}
    assert [row.reason for row in rows if row.role == "rejected" and row.label == 0] == [rejections.TOO_SMALL]
    assert plan.estimated_bytes() > 0
    assert verify(store, sample=3).passed


def test_fakes_that_are_smaller_than_the_window_are_not_tried_again(manifest: Path, tmp_path: Path) -> None:
    plan = planned(changed(manifest, size={"crop": 20}, attempts=4))
    store = Store(tmp_path / "store", "fake")
    with pytest.raises(CheckFailed, match=rejections.TOO_SMALL):
        run_build(plan, store, "cpu")
    shard = next(shard for shard in plan.shards if shard.subset == "Sampled")
    assert [row.attempt for row in store.shard(shard.key)] == [0, 0, 0, 0]


def test_a_source_without_a_picture_that_is_large_enough_makes_no_version(manifest: Path, tmp_path: Path) -> None:
    plan = planned(changed(manifest, size={"crop": 64}, allow_missing=100))
    with pytest.raises(CheckFailed, match="no image of the real source people fits"):
        run_build(plan, Store(tmp_path / "store", "fake"), "cpu")


def test_a_size_decides_the_keys(manifest: Path) -> None:
    sizes: list[Any] = [16, {"crop": 16}, {"crop": 16, "at": "seed"}, {"crop": 17}, "native"]
    keys = [planned(changed(manifest, size=size)).keys for size in sizes]
    assert len(frozenset().union(*keys)) > len(keys[0])
    finals = [{shard.key for shard in planned(changed(manifest, size=size)).shards if shard.role != "intermediate"} for size in sizes]
    assert sum(map(len, finals)) == len(set().union(*finals))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": {"crop": 8}}, r"size: crop: .*greater than or equal to 16"),
        ({"size": {"corp": 32}}, r"size: .*corp"),
        ({"size": {"crop": 32, "at": "edge"}}, r"size: at: "),
        ({"size": "natural"}, r"size: a size is a whole number from 16 to 4096 px, `\{crop: 256\}` or `native`"),
        ({"size": True}, r"size: "),
        ({"size": 8}, r"size: a size is a whole number"),
        ({"size": {"crop": 16}, "parity": {"sizes": "reals"}}, r"resamples nothing"),
    ],
)
def test_a_size_that_is_none_is_refused(manifest: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_manifest(changed(manifest, **change))


def test_as_they_are_fakes_can_get_the_dimensions_of_reals(manifest: Path, tmp_path: Path) -> None:
    subsets = {"Sampled": yaml.safe_load(manifest.read_text())["subsets"]["Sampled"]}
    _, rows = rows_of(planned(changed(manifest, size="native", parity={"sizes": "reals"}, subsets=subsets)), tmp_path)
    fakes = {(row.height, row.width) for row in rows if row.role == "final"}
    assert fakes <= {(40, 30), (40, 31), (40, 32), (SIDE, SIDE)}  # the last where the donor is too small to be in the dataset
    assert fakes != {(SIDE, SIDE)}


def test_in_a_crop_fakes_lie_in_the_grid_as_the_window_of_their_donor(manifest: Path, tmp_path: Path) -> None:
    for file in (tmp_path / "data" / "reals").glob("*.png"):
        smooth = cv2.GaussianBlur(cv2.imread(str(file)), (0, 0), 3)
        file.write_bytes(cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 30])[1].tobytes())
    subsets = {"Sampled": yaml.safe_load(manifest.read_text())["subsets"]["Sampled"]}
    plan = planned(changed(manifest, size={"crop": SIDE}, parity={"jpeg": "reals"}, subsets=subsets))
    shard = next(shard for shard in plan.shards if shard.subset == "Sampled")
    jobs, _ = plan_jobs(plan, shard, range(4), 0, {})
    for job in jobs:
        assert job.past is not None
        assert job.past.begins in {((40 - SIDE) // 2, (30 + more - SIDE) // 2) for more in range(3)} | {(0, 0)}
    rows = rows_of(plan, tmp_path)[1]
    assert all(row.measures["history"]["quality"] == 30 for row in rows if row.role == "final")
