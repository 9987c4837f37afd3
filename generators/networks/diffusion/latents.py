"""Latents to images through an autoencoder of diffusers, as many at once as fit in memory."""

from __future__ import annotations

from typing import Any

import torch

from generators.memory import free_memory

DECODER_MAPS = 8  # maps of full size and up to twice its first width that a decoder holds at its widest, with room to spare


def decode_latents(autoencoder: Any, latents: torch.Tensor, alone: bool = False) -> torch.Tensor:
    """Images in [-1, 1], float32, of float32 latents as the UNet has them; as many at once as fit in memory, or each `alone`.

    Where the autoencoder looks latents up in a book of codes (VQ), that is done in float32: in half precision the distances to codes that
    are near each other round to the same number.
    """
    scaled = latents / autoencoder.config.scaling_factor
    pixels = scaled.shape[2] * scaled.shape[3] * 4 ** (len(autoencoder.config.block_out_channels) - 1)
    at_once = 1 if alone else images_at_once(autoencoder, pixels, scaled.device)
    return torch.cat([_decoded(autoencoder, part) for part in scaled.split(at_once)])


def _decoded(autoencoder: Any, latents: torch.Tensor) -> torch.Tensor:
    options = {}
    if autoencoder.dtype != torch.float32 and hasattr(autoencoder, "quantize"):
        latents, options = nearest_codes(autoencoder.quantize.embedding.weight, latents), {"force_not_quantize": True}
    return autoencoder.decode(latents.to(autoencoder.dtype), **options).sample.float()


def nearest_codes(book: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """For each place of float32 latents `[N, D, h, w]` the nearest code of `book` `[K, D]`, float32 of the same shape."""
    codes = book.float()
    places = latents.permute(0, 2, 3, 1)
    chosen = torch.cdist(places.flatten(0, 2), codes).argmin(1)
    return codes[chosen].view(places.shape).permute(0, 3, 1, 2)


def images_at_once(autoencoder: Any, pixels: int, device: torch.device) -> int:
    """How many images of `pixels` pixels the device's free memory lets `autoencoder` decode together; one on a CPU, where a batch gains
    nothing."""
    if device.type != "cuda":
        return 1
    element = torch.finfo(autoencoder.dtype).bits // 8
    return max(1, free_memory(device) // (DECODER_MAPS * 2 * autoencoder.config.block_out_channels[0] * pixels * element))
