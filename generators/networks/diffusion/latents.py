"""Latents to images through an autoencoder of diffusers, as many at once as fit in memory."""

from __future__ import annotations

from typing import Any

import torch

DECODER_MAPS = 8  # maps of full size and up to twice its first width that a decoder holds at its widest, with room to spare


def decode_latents(autoencoder: Any, latents: torch.Tensor) -> torch.Tensor:
    """Images in [-1, 1], float32, of float32 latents as the UNet has them; as many at once as fit in memory."""
    scaled = (latents / autoencoder.config.scaling_factor).to(autoencoder.dtype)
    pixels = scaled.shape[2] * scaled.shape[3] * 4 ** (len(autoencoder.config.block_out_channels) - 1)
    at_once = images_at_once(autoencoder, pixels, scaled.device)
    return torch.cat([autoencoder.decode(part).sample.float() for part in scaled.split(at_once)])


def images_at_once(autoencoder: Any, pixels: int, device: torch.device) -> int:
    """How many images of `pixels` pixels the device's free memory lets `autoencoder` decode together; one on a CPU, where a batch gains
    nothing."""
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    element = torch.finfo(autoencoder.dtype).bits // 8
    return max(1, free // (DECODER_MAPS * 2 * autoencoder.config.block_out_channels[0] * pixels * element))
