"""The checkpoints that the package carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import generators
from generators import registry
from generators.checkpoints import Checkpoint, sha256_of
from generators.images import to_float
from generators.training.pictures import distinct_crops, held_out_pictures

DEMO = Path(generators.__file__).parent / "demo"
SHIPPED = sorted(DEMO.glob("*.safetensors"))
STEPS = {"ddpm": 6, "ddim": 6, "pndm": 6, "ldm": 6, "stylegan2": None}


def demo(name: str) -> Checkpoint:
    return Checkpoint(DEMO / f"{name}-demo-32.safetensors")


def test_all_four_are_shipped():
    assert [path.name.removesuffix("-demo-32.safetensors") for path in SHIPPED] == ["ddpm", "ldm", "simswap", "stylegan2"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_is_small_and_its_card_is_about_it(path):
    assert path.stat().st_size <= 3_000_000
    card = path.with_suffix(".md").read_text()
    assert sha256_of(path) in card
    assert "ntf train-generator" in card
    assert "/tmp" not in card


@pytest.mark.parametrize("name", STEPS)
def test_samplers_load_them(name):
    generator = registry.get(name).load(demo("ddpm" if name in {"ddim", "pndm"} else name))
    images = generator.sample([1, 2], **({"steps": STEPS[name]} if STEPS[name] else {}))
    assert images.shape == (2, 32, 32, 3)
    assert images.std() > 10
    if name in {"ldm", "stylegan2"}:
        assert (images == images[..., :1]).all()


def test_swaps_of_held_out_faces_move_the_identity_and_keep_the_picture():
    """Each of 17 unseen faces onto another: nearer to its source, and not a copy of it."""
    swapper = registry.get("simswap").load(demo("simswap"))
    faces = np.stack([image for _, image in distinct_crops(held_out_pictures("faces"), 34, seed=3)])
    sources, targets = faces[:17], faces[17:]
    made = swapper.swap(sources, targets, range(17))
    wanted = swapper.identities(sources)
    before, after = (torch.sum(swapper.identities(images) * wanted, 1) for images in (targets, made))
    assert after.mean() > before.mean() + 0.1
    assert (made == made[..., :1]).all()
    edge = np.zeros((32, 32), bool)
    edge[:3], edge[:, :3], edge[:, -3:] = True, True, True

    def distance(images):
        return (to_float(made) - to_float(images)).abs().mean(1)[:, edge].mean()

    assert distance(targets) < 0.5 * distance(sources)
