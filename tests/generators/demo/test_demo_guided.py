"""The demo's Stable Diffusion and DiffFace: what they are told decides what they make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import generators
import manifests
from generators import registry
from generators.checkpoints import Checkpoint
from generators.demo.pictures import distinct_crops, held_out_pictures, training_pictures
from generators.faces.masks import ellipse_mask
from generators.images import to_float
from generators.training.faces.diffface import SWAP
from tests.generators.methods.tiny_diffusion import same_for_all_batch_sizes

DEMO = Path(generators.__file__).parent / "demo"
PROMPTS = Path(manifests.__file__).parent / "prompts" / "demo.txt"
STABLE = {"steps": 15, "guidance_scale": 2.0, "safety": "off"}


def demo(name: str) -> Checkpoint:
    return Checkpoint(DEMO / f"{name}-demo-32.safetensors")


def test_a_prompt_decides_what_stable_diffusion_shows():
    """Of images of four subjects, most look like a training picture of their subject and not of the others, by colours in 4 x 4 fields."""
    prompts = {
        "hubble": "a night sky full of galaxies",
        "ihc": "stained tissue under a microscope",
        "retina": "a retina",
        "flower": "a red flower",
    }
    model = registry.get("stable_diffusion").load(demo("stable-diffusion"))
    known = [picture for picture in training_pictures("photos") if picture.photograph in prompts]
    names = [picture.photograph for picture in known for _ in range(4)]
    crops = np.stack([image for picture in known for _, image in distinct_crops([picture], 4, seed=1)])
    wanted = [name for name in prompts for _ in range(4)]
    images = model.prompt([prompts[name] for name in wanted], range(16), **STABLE)

    def fields(pixels):
        return torch.nn.functional.adaptive_avg_pool2d(to_float(pixels), 4).flatten(1)

    nearest = torch.cdist(fields(images), fields(crops)).argmin(1)
    assert np.mean([names[index] == name for index, name in zip(nearest, wanted, strict=True)]) >= 0.75


def test_stable_diffusion_gives_the_same_image_in_every_batch():
    model = registry.get("stable_diffusion").load(demo("stable-diffusion"))
    prompts = [line for line in PROMPTS.read_text().splitlines() if line][:8]
    same_for_all_batch_sizes(model, lambda: model.prompt(prompts, range(8), **{**STABLE, "steps": 6}))


def test_diffface_moves_the_identity_of_held_out_faces_and_keeps_the_picture():
    """By the identity network that guides it, and by SimSwap's, which had no part in it."""
    swapper = registry.get("diffface").load(demo("diffface"))
    other = registry.get("simswap").load(demo("simswap"))
    faces = np.stack([image for _, image in distinct_crops(held_out_pictures("faces"), 16, seed=3)])
    sources, targets = faces[:8], faces[8:]
    swapped = swapper.swap(sources, targets, range(8), **SWAP)
    for judge, moved in ((swapper, 0.2), (other, 0.05)):
        wanted, before, after = (judge.embed_faces(images) for images in (sources, targets, swapped))
        assert (after * wanted).sum(1).mean() > (before * wanted).sum(1).mean() + moved
    assert (swapped == swapped[..., :1]).all()
    outside = ellipse_mask(32)[0, 0].numpy() == 0
    assert np.abs(swapped.astype(int) - targets)[:, outside].max() <= 1


def test_diffface_gives_the_same_swap_in_every_batch():
    swapper = registry.get("diffface").load(demo("diffface"))
    faces = np.stack([image for _, image in distinct_crops(held_out_pictures("faces"), 16, seed=5)])
    quick = {**SWAP, "candidates": 1, "steps": 8, "skip": 3}
    same_for_all_batch_sizes(swapper, lambda: swapper.swap(faces[:8], faces[8:], range(8), **quick))
