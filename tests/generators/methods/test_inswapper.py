from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data

from generators import registry
from generators.base import Crop
from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.faces.align import align
from tests.generators.faces.onnx_graphs import save_inswapper, save_recognition

pytest.importorskip("insightface")
RNG = np.random.default_rng(3)
SOURCES, TARGETS = (RNG.integers(0, 256, (8, 128, 128, 3), dtype=np.uint8) for _ in range(2))
SOURCES[:4] //= 3


@pytest.fixture(params=[1, "batch"])
def checkpoint(tmp_path: Path, request: pytest.FixtureRequest) -> Checkpoint:
    save_inswapper(tmp_path / "inswapper_128.onnx", batch=request.param)
    identity = Checkpoint(save_recognition(tmp_path / "w600k_tiny.onnx"))
    return Checkpoint(tmp_path / "inswapper_128.onnx", {}, {"identity": identity})


def test_the_latent_goes_through_emap_and_comes_out_of_length_one(checkpoint: Checkpoint) -> None:
    emap, colours = save_inswapper(checkpoint.path)
    swapper = registry.get("inswapper").load(checkpoint)
    assert swapper.crop == Crop("arcface", 128)
    vectors = swapper.identity.embed(SOURCES[:, :112, 8:120])
    latents = vectors @ emap
    latents /= np.linalg.norm(latents, axis=1, keepdims=True)
    want = np.clip((TARGETS / 255 + (latents @ colours)[:, None, None]) * 255, 0, 255)
    got = swapper.swap(SOURCES, TARGETS, list(range(8)))
    assert np.abs(got - want).max() <= 1.001
    assert np.abs(got.astype(int) - TARGETS).mean() > 5


def test_same_image_for_any_batch_and_order(checkpoint: Checkpoint) -> None:
    swapper = registry.get("inswapper").load(checkpoint)
    whole = swapper.swap(SOURCES, TARGETS, list(range(8))).astype(int)
    for batch_size in (1, 3):
        swapper.batch_size = batch_size
        order = [5, 2, 7, 0, 1, 6, 3, 4]
        assert np.abs(swapper.swap(SOURCES[order], TARGETS[order], order) - whole[order]).max() <= 1


def test_the_recognition_crop_is_the_arcface_crop() -> None:
    """Cutting 112 px out of the 128 px crop gives the pixels that aligning at 112 px gives."""
    astronaut = skimage.data.astronaut()
    landmarks = np.float32([[203, 112], [246, 111], [222, 133], [206, 150], [246, 150]])
    wide, narrow = align(astronaut, landmarks, "arcface", 128)[0], align(astronaut, landmarks, "arcface", 112)[0]
    assert np.abs(wide[:112, 8:120].astype(int) - narrow).max() <= 1


def test_files_that_are_no_inswapper_say_so(tmp_path: Path, checkpoint: Checkpoint) -> None:
    load = registry.get("inswapper").load
    with pytest.raises(CheckpointError, match=r"no checkpoint file .*inswapper_128\.onnx there"):
        load(Checkpoint(tmp_path / "absent.onnx"))
    (tmp_path / "cut.onnx").write_bytes(checkpoint.path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"cut\.onnx is not a whole ONNX model"):
        load(Checkpoint(tmp_path / "cut.onnx", {}, checkpoint.components))
    with pytest.raises(CheckpointError, match="is not an INSwapper"):
        load(Checkpoint(checkpoint.component("identity").path, {}, checkpoint.components))
    with pytest.raises(InputError, match="needs a component 'identity'"):
        load(Checkpoint(checkpoint.path))
    wrong = Checkpoint(save_recognition(tmp_path / "small.onnx", values=7))
    with pytest.raises(CheckpointError, match="gives 7 values, INSwapper takes 24"):
        load(Checkpoint(checkpoint.path, {}, {"identity": wrong})).swap(SOURCES[:1], TARGETS[:1], [0])
