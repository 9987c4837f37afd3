"""Faces restored inside pictures, and SimSwap followed by GFPGAN as one chain."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.checkpoints import Checkpoint
from generators.errors import InputError
from generators.faces.align import template_points
from generators.faces.detect import CascadeDetector, Detector, Face
from generators.methods.gfpgan import GFPGAN
from generators.methods.real_esrgan import RealESRGAN
from pipelines.build.build import run_build
from pipelines.make import rejections
from pipelines.make.regions import edits, swaps
from pipelines.make.regions.edits import edit
from pipelines.make.threads import Threads
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import make_plan
from pipelines.store import Store
from tests.parity.cases import HERE, Case
from tests.support import simswap_checkpoint, write_manifest

CASES = HERE / "cases"


class Anywhere(Detector):
    """Finds faces of a given size at given corners, whatever the picture shows."""

    def __init__(self, *corners: tuple[float, float], size: float = 40.0):
        self.corners, self.size = corners, size

    def detect_aligned(self, crop: np.ndarray) -> list[Face]:
        return self.detect(crop)

    def detect(self, image: np.ndarray) -> list[Face]:
        points = template_points("ffhq", 512)[0] * self.size / 512
        return [Face((x, y, x + self.size, y + self.size), (points + np.array([x, y])).astype(np.float32), 0.9) for x, y in self.corners]

    def _find(self, image: np.ndarray) -> list[Face]:
        raise NotImplementedError


def weights(folder: Path, case: str, key: str) -> Path:
    file = folder / f"{Path(case).name}.pth"
    state = Case(CASES / case).weights(key)
    torch.save({key: state} if key.startswith("params") else state, file)
    return file


@pytest.fixture
def gfpgan(tmp_path: Path) -> GFPGAN:
    return GFPGAN.load(Checkpoint(weights(tmp_path, "gfpgan/clean64_small", "params_ema")))


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    import skimage.data

    return skimage.data.astronaut()[:256, 90:346]


def run(generator: Any, pictures: list[np.ndarray], detector: Detector, **parameters: Any) -> list[Any]:
    return list(edit(generator, [lambda p=p: p for p in pictures], list(range(len(pictures))), parameters, lambda: detector))


def test_a_face_in_a_photograph_is_restored_and_the_rest_stays(gfpgan: GFPGAN, astronaut: np.ndarray) -> None:
    output = run(gfpgan, [astronaut], CascadeDetector(), mask="square")[0]
    changed = (output.picture != astronaut).any(2)
    assert output.picture.shape == astronaut.shape
    (face,) = output.measures["restored_faces"]
    left, top, right, bottom = (round(value) for value in face["box"])
    assert changed[top:bottom, left:right].mean() > 0.9
    assert not changed[:5].any() and not changed[-40:, :20].any()
    assert 0.05 < output.measures["mask_share"] < 0.8
    assert not changed[~output.mask].any() and changed[output.mask].mean() > 0.9


def test_every_face_is_restored_with_a_seed_of_its_own(gfpgan: GFPGAN) -> None:
    grey = np.full((64, 128, 3), 90, np.uint8) + np.arange(128, dtype=np.uint8)[None, :, None]
    two = run(gfpgan, [grey, grey], Anywhere((10, 12), (76, 12)), mask="square")
    one = run(gfpgan, [grey], Anywhere((10, 12)), mask="square")
    assert len(two[0].measures["restored_faces"]) == 2
    assert (two[0].picture[20:40, 85:105] != grey[20:40, 85:105]).any()
    assert np.abs(two[0].picture[:, :60].astype(int) - one[0].picture[:, :60]).max() <= 1
    assert (two[0].picture != two[1].picture).any(), "other seeds, the same noise"


@pytest.mark.parametrize("held_bytes", [0, 1 << 30])
def test_threads_give_what_one_thread_gives(gfpgan: GFPGAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_bytes: int) -> None:
    """Three chunks of pictures, some without a face; the faces are parsed."""
    monkeypatch.setattr(edits, "HELD_BYTES", held_bytes)
    monkeypatch.setattr(edits, "CHUNK", 2)
    parser = Checkpoint(weights(tmp_path, "gfpgan/parsenet_small", "state_dict"))
    model = GFPGAN.load(Checkpoint(gfpgan.checkpoint.path, components={"parsing": parser}))
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (64, 96, 3), dtype=np.uint8) for _ in range(5)]

    class Sometimes(Anywhere):
        def detect(self, image: np.ndarray) -> list[Face]:
            return super().detect(image) if image[0, 0, 0] % 3 else []

    detector = Sometimes((10, 12))
    plain, threaded = (
        list(edit(model, [lambda p=p: p for p in pictures], range(5), {}, lambda: detector, threads)) for threads in (None, Threads(3))
    )
    assert {output.reason for output in plain} == {None, rejections.NO_FACE["target"]}
    for one, other in zip(plain, threaded, strict=True):
        assert (one.reason, one.measures) == (other.reason, other.measures)
        if one.picture is not None:
            assert np.array_equal(one.picture, other.picture)
            assert np.array_equal(one.mask, other.mask)


def test_restored_faces_are_pasted_beside_the_thread_that_runs_the_network(
    gfpgan: GFPGAN, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    pasting: list[str] = []
    paste = gfpgan.paste
    monkeypatch.setattr(gfpgan, "paste", lambda *given: pasting.append(threading.current_thread().name) or paste(*given))
    pictures = [lambda: astronaut] * 2
    list(edit(gfpgan, pictures, [0, 1], {"mask": "square"}, lambda: Anywhere((60, 60), size=120.0), Threads(1)))
    assert len(pasting) == 2
    assert threading.current_thread().name not in pasting


def test_upscale_and_a_picture_without_faces(gfpgan: GFPGAN, astronaut: np.ndarray) -> None:
    grey = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    large, none, small = (
        run(gfpgan, [grey], detector, mask="square", upscale=2)[0]
        for detector in (Anywhere((10, 10)), Anywhere(), Anywhere((10, 10), size=15.0))
    )
    assert large.picture.shape == (128, 128, 3)
    assert large.measures["restored_faces"][0]["box"] == [20.0, 20.0, 100.0, 100.0]
    assert (none.picture, none.reason) == (None, rejections.NO_FACE["target"])
    assert small.reason == rejections.NO_FACE["target"]  # eyes nearer than 5 px


@pytest.mark.parametrize("points", [[[0, 0], [20, 0]] + [[np.nan, 0]] * 3, [[5, 5]] * 5])
def test_landmarks_that_are_no_face_reject_the_picture(gfpgan: GFPGAN, points: list[list[float]]) -> None:
    """One bad detection must not end a build."""
    detector = Anywhere()
    detector.detect = lambda image: [Face((0, 0, 9, 9), np.array(points, np.float32), 1.0)]  # type: ignore[method-assign]
    grey = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    assert run(gfpgan, [grey], detector, mask="square")[0].reason == rejections.NO_FACE["target"]


def test_parsing_needs_its_component(gfpgan: GFPGAN, tmp_path: Path, astronaut: np.ndarray) -> None:
    with pytest.raises(InputError, match="no component 'parsing'"):
        run(gfpgan, [astronaut], Anywhere((60, 60), size=120.0))
    parser = Checkpoint(weights(tmp_path, "gfpgan/parsenet_small", "state_dict"))
    with_parser = GFPGAN.load(Checkpoint(gfpgan.checkpoint.path, components={"parsing": parser}))
    output = run(with_parser, [astronaut], Anywhere((60, 60), size=120.0))[0]
    square = run(with_parser, [astronaut], Anywhere((60, 60), size=120.0), mask="square")[0]
    assert 0 < output.measures["mask_share"] != square.measures["mask_share"]


def test_whole_pictures_of_different_sizes(tmp_path: Path) -> None:
    model = RealESRGAN.load(Checkpoint(weights(tmp_path, "realesrgan/x4_small", "params_ema")))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((12, 20), (9, 9))]
    assert [output.picture.shape for output in run(model, pictures, Anywhere())] == [(48, 80, 3), (36, 36, 3)]


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """SimSwap then GFPGAN, GFPGAN on reals, Real-ESRGAN after GFPGAN: on pictures in which a face is wherever it is looked for."""
    monkeypatch.setattr(swaps, "load_detector", lambda *_: Anywhere((12, 12)))
    entries = {
        "swap": {"generators": ["simswap"], "file": str(simswap_checkpoint(tmp_path / "swap.safetensors")), "options": {"crop": "simswap"}},
        "gfpgan": {
            "generators": ["gfpgan"],
            "file": str(weights(tmp_path, "gfpgan/clean64_small", "params_ema")),
            "components": {"parsing": "parsenet"},
        },
        "parsenet": {"file": str(weights(tmp_path, "gfpgan/parsenet_small", "state_dict"))},
        "x2": {"generators": ["real_esrgan"], "file": str(weights(tmp_path, "realesrgan/enhance_x2_small", "params_ema"))},
    }
    restore = {"edit": "gfpgan", "checkpoint": "gfpgan"}
    chains = {
        "SimSwap_GFPGAN": [{"swap": "simswap", "checkpoint": "swap", "source": "faces", "target": "faces"}, restore],
        "Retouched": [{**restore, "mask": "square", "target": "faces"}, {"edit": "real_esrgan", "checkpoint": "x2", "tile": 32}],
    }
    return {
        "dataset": "restored",
        "size": 64,
        "shard_size": 2,
        "splits": {"train": 0.5, "validation": 0.2},
        "reals": {"faces": {"package": "photos", "licence": "test", "count": 12}},
        "checkpoints": {name: {**entry, "licence": "test"} for name, entry in entries.items()},
        "subsets": {name: {"count": 3, "real": "faces", "chain": [dict(step) for step in chain]} for name, chain in chains.items()},
    }


def test_simswap_then_gfpgan_is_one_chain(tmp_path: Path, manifest: dict[str, Any]) -> None:
    plan = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", manifest)))
    store = Store(tmp_path / "store", "restored")
    assert run_build(plan, store, "cpu").short == {}
    rows = store.rows("role = 'final' AND label = 1")
    assert sorted({row.subset for row in rows}) == ["Retouched", "SimSwap_GFPGAN"] and len(rows) == 6
    for row in rows:
        generators = [link["generator"] for link in row.chain]
        assert generators == (["simswap", "gfpgan"] if row.subset == "SimSwap_GFPGAN" else ["gfpgan", "real_esrgan"])
        assert (row.width, row.height) == (64, 64)
        if row.subset == "SimSwap_GFPGAN":
            assert row.measures["restored_faces"] and row.measures["mask_share"] > 0


def test_the_detector_is_part_of_the_key_of_restored_faces(tmp_path: Path, manifest: dict[str, Any]) -> None:
    def keys(data: dict[str, Any]) -> dict[tuple[str, int], str]:
        plan = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", data)))
        return {(shard.subset, shard.step): shard.key for shard in plan.shards if shard.start == 0 and shard.subset}

    restored = keys(manifest)
    moved = keys({**manifest, "faces": {"padding": 0.25}})
    assert restored["Retouched", 0] != moved["Retouched", 0]
    picture = {"edit": "gfpgan", "checkpoint": "gfpgan", "region": "picture", "target": "faces"}
    whole = {**manifest, "subsets": {"Whole": {"count": 2, "real": "faces", "chain": [picture]}}}
    assert keys(whole)["Whole", 0] == keys({**whole, "faces": {"padding": 0.25}})["Whole", 0]
