"""Methods with an autoencoder can put an image through it alone: no noise, no seed, no text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from generators import registry
from generators.checkpoints import Checkpoint
from generators.methods.ldm import LDM
from generators.methods.stable_diffusion import StableDiffusion
from tests.generators.methods import tiny_diffusion as tiny

PROMPTS = ["a cat", "a dog"]


def test_who_has_an_autoencoder() -> None:
    able = {name for name in registry.names() if registry.get(name).reconstruction is not None}
    assert able == {"ldm", "stable_diffusion", "text_to_image", "vqgan"}
    for name in able:
        assert "edit" in registry.get(name).kinds
        registry.get(name).parse_parameters(registry.get(name).reconstruction or {})


def test_ldm(tmp_path: Path) -> None:
    model = LDM.load(Checkpoint(tiny.latent_pipeline(tmp_path)))
    images = model.sample([1, 2], steps=2)
    again = model.edit(images, [3, 4], **(LDM.reconstruction or {}))
    assert np.array_equal(again, model.edit(images, [5, 6], strength=0, steps=7))
    with torch.no_grad():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        expected = model.decode(model.encode(pixels, [])).permute(0, 2, 3, 1).clip(-1, 1).numpy()
    assert np.abs(again - (expected + 1) * 127.5).max() <= 1


def test_stable_diffusion(tmp_path: Path) -> None:
    model = StableDiffusion.load(Checkpoint(tiny.stable_diffusion_pipeline(tmp_path)))
    images = model.prompt(PROMPTS, [1, 2], steps=2, safety="off")
    again = model.edit(images, [3, 4], **(StableDiffusion.reconstruction or {}))
    assert not np.array_equal(again, images)
    assert np.array_equal(again, model.edit(images, [5, 6], strength=0, safety="off", prompt="of dogs"))
