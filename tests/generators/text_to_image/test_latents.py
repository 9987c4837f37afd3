"""Encoding and decoding with every kind of autoencoder that diffusers has."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from generators.text_to_image.latents import encode, is_for_video, reconstruct, scaled
from tests.generators.text_to_image import tiny_families as tiny

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


def vq() -> Any:
    widths = {"block_out_channels": (8, 16), "latent_channels": 3, "num_vq_embeddings": 32, "norm_num_groups": 4}
    return diffusers.VQModel(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **widths)


def qwen() -> Any:
    layers = {"dim_mult": [1, 2], "num_res_blocks": 1, "temperal_downsample": [False], "latents_mean": [0.5] * 4, "latents_std": [2.0] * 4}
    return diffusers.AutoencoderKLQwenImage(base_dim=4, z_dim=4, **layers)


def dc() -> Any:
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in DC_BLOCKS.items()}
    return diffusers.AutoencoderDC(latent_channels=4, attention_head_dim=4, scaling_factor=0.5, **sides)


DC_BLOCKS: dict[str, Any] = {"block_out_channels": (8, 8), "block_types": ("ResBlock", "ResBlock"), "layers_per_block": (1, 1)}
DC_BLOCKS["qkv_multiscales"] = ((), ())


@pytest.mark.parametrize("build", [lambda: tiny.kl(2), vq, qwen, dc], ids=["kl", "vq", "qwen", "dc"])
def test_images_go_through_every_autoencoder(build: Any) -> None:
    torch.manual_seed(0)
    vae = build().eval()
    with torch.inference_mode():
        both = reconstruct(vae, IMAGES, torch.device("cpu"))
        alone = reconstruct(vae, IMAGES[1:], torch.device("cpu"))
        latents = encode(vae, torch.zeros(1, 3, 32, 32))
    assert both.shape == IMAGES.shape
    assert both.dtype == np.uint8
    assert np.array_equal(both[1:], alone)
    assert latents.shape[2:] == (16, 16)
    assert is_for_video(vae) == (build is qwen)


def test_latents_are_scaled_by_channel_or_by_shift_and_factor() -> None:
    latents = torch.ones(1, 4, 2, 2)
    assert torch.allclose(scaled(qwen(), latents), torch.full_like(latents, 0.25))
    assert torch.allclose(scaled(tiny.kl(2, shift_factor=0.1, scaling_factor=0.5), latents), torch.full_like(latents, 0.45))
