"""The checkpoints that the package carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import generators
from generators import registry
from generators.checkpoints import Checkpoint, sha256_of
from generators.demo.pictures import distinct_crops, held_out_pictures
from generators.images import to_float

DEMO = Path(generators.__file__).parent / "demo"
SHIPPED = sorted(DEMO.glob("*.safetensors"))
STEPS = {"ddpm": 6, "ddim": 6, "pndm": 6, "ldm": 6}
GANS = ("stylegan2", "progan", "projected_gan", "diff_stylegan2", "vqgan")


def demo(name: str) -> Checkpoint:
    return Checkpoint(DEMO / f"{name.replace('_', '-')}-demo-32.safetensors")


def test_every_generator_of_the_paper_has_its_own_or_that_of_its_family():
    shipped = {path.name.removesuffix("-demo-32.safetensors").replace("-", "_") for path in SHIPPED}
    assert shipped >= {"ddpm", "ldm", "simswap", *GANS}


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
    images = generator.sample([1, 2], steps=STEPS[name])
    assert images.shape == (2, 32, 32, 3)
    assert images.std() > 10
    if name == "ldm":
        assert (images == images[..., :1]).all()


@pytest.mark.parametrize("name", GANS)
def test_a_seed_gives_its_image_in_a_batch_of_any_size(name):
    generator = registry.get(name).load(demo(name))
    batches = []
    for generator.batch_size in (1, 3, 8):
        batches.append(generator.sample(range(9)).astype(int))
    assert batches[0].shape == (9, 32, 32, 3)
    assert max(np.abs(batches[0] - other).max() for other in batches[1:]) <= 1


@pytest.mark.parametrize("name", GANS)
def test_faces_are_as_like_the_mean_of_unseen_faces_as_those_are_and_differ_from_each_other(name):
    images = registry.get(name).load(demo(name)).sample(range(24))
    unseen = np.stack([image for _, image in distinct_crops(held_out_pictures("faces"), 24, seed=3)])
    assert (images == images[..., :1]).all()
    face = standardised(unseen).mean(0, keepdims=True)
    likeness, usual = ((standardised(faces) @ standardised(face).T).mean() for faces in (images, unseen))
    assert likeness > 0.8 * usual  # noise has 0
    similarity, usual = (np.corrcoef(standardised(faces))[np.triu_indices(24, 1)].mean() for faces in (images, unseen))
    assert 1 - similarity > 0.6 * (1 - usual)  # one face again and again has 0


def test_codes_say_unseen_faces():
    generator = registry.get("vqgan").load(demo("vqgan"))
    unseen = np.stack([image for _, image in distinct_crops(held_out_pictures("faces"), 24, seed=3)])
    decoded = generator.edit(unseen, range(24))
    assert np.abs(decoded.astype(int) - unseen).mean() < 0.5 * np.abs(unseen.mean((1, 2), keepdims=True) - unseen).mean()


def standardised(images: np.ndarray) -> np.ndarray:
    """Each image as a row of its grey values, of mean 0 and length 1."""
    rows = images.reshape(len(images), -1, images.shape[-1] if images.ndim == 4 else 1).mean(2)
    rows = rows - rows.mean(1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_swaps_of_held_out_faces_move_the_identity_and_keep_the_picture():
    """Each of 17 unseen faces onto another: nearer to its source, and not a copy of it."""
    swapper = registry.get("simswap").load(demo("simswap"))
    faces = np.stack([image for _, image in distinct_crops(held_out_pictures("faces"), 34, seed=3)])
    sources, targets = faces[:17], faces[17:]
    swapped = swapper.swap(sources, targets, range(17))
    wanted = swapper.identities(sources)
    before, after = (torch.sum(swapper.identities(images) * wanted, 1) for images in (targets, swapped))
    assert after.mean() > before.mean() + 0.1
    assert (swapped == swapped[..., :1]).all()
    edge = np.zeros((32, 32), bool)
    edge[:3], edge[:, :3], edge[:, -3:] = True, True, True

    def distance(images):
        return (to_float(swapped) - to_float(images)).abs().mean(1)[:, edge].mean()

    assert distance(targets) < 0.5 * distance(sources)
