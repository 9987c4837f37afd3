"""Noise on the latents of a reconstruction: `latent_noise` of the generators that have an autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field

from generators.seeding import randn
from generators.transfer import send

NAME = "latent_noise"
MOST = 4.0  # standard deviations; nothing of an image is left by then


def noise_field() -> Any:
    """The parameter as generators declare it."""
    return Field(0.0, ge=0, le=MOST, description="edit that only encodes and decodes: noise on the latents, in their standard deviations")


def with_noise(latents: torch.Tensor, amount: float, seeds: Sequence[int]) -> torch.Tensor:
    """Latents `[N, ...]` plus normal noise, image i from `seeds[i]` alone; its standard deviation is `amount` times that of the image's own
    latents. At 0 the latents as they are."""
    if amount == 0:
        return latents
    spread = latents.float().flatten(1).std(1).view(-1, *[1] * (latents.dim() - 1))
    noise = send(randn(seeds, latents.shape[1:], "latent noise"), latents.device)
    return (latents.float() + amount * spread * noise).to(latents.dtype)


def require_reconstruction(settings: Any) -> Any:
    """The settings of an edit. ValueError if they ask for noise on latents that are denoised afterwards: that noise would be taken off."""
    if settings.latent_noise and settings.strength:
        raise ValueError("latent_noise is for an edit that only encodes and decodes: set `strength: 0`")
    return settings
