"""Images to latents and back, for every autoencoder of diffusers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from generators.errors import InputError
from generators.images import to_float, to_uint8
from generators.latent_noise import with_noise
from generators.text_to_image.sizes import autoencoder_of

SCALES = frozenset({"scaling_factor", "shift_factor", "latents_mean", "latents_std"})


def reconstruct(vae: Any, images: np.ndarray, device: torch.device, noise: float = 0.0, seeds: Sequence[int] = ()) -> np.ndarray:
    """`uint8` `[N, H, W, 3]` through the autoencoder and back, one at a time, so that memory is no matter.

    It takes a code as the encoder's most likely one (KL), the nearest in the book (VQ), or the only one (DC-AE). With `noise` the latents
    get noise from the `seeds` (`generators.latent_noise`).
    """

    def one(row: int) -> np.ndarray:
        latents = encode(vae, to_float(images[row : row + 1], device=device))
        return _decoded(vae, with_noise(latents, noise, seeds[row : row + 1]))

    with working_precision(vae):
        return np.concatenate([one(row) for row in range(len(images))])


def encode(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The latents `[N, C, h, w]` of images in [-1, 1], `[N, 3, H, W]`, as the autoencoder gives them: not scaled.

    Autoencoders of video take a further dimension for time, which is added here and taken away again.
    """
    pixels = pixels.to(vae.dtype)
    encoded = vae.encode(pixels.unsqueeze(2) if is_for_video(vae) else pixels)
    if hasattr(encoded, "latent_dist"):
        latents = encoded.latent_dist.mode()
    else:
        latents = next((getattr(encoded, name) for name in ("latents", "latent") if hasattr(encoded, name)), None)
        if latents is None:
            raise InputError(f"{type(vae).__name__} gives no latents that are known", "This pipeline can only prompt")
    return latents[:, :, 0] if latents.dim() == 5 else latents


def scaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents of an autoencoder as its denoiser wants them: by a mean and a standard deviation for each channel, or by shift and factor."""
    config = vae.config
    factor = config.get("scaling_factor") or 1.0
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        shape = (1, -1, *[1] * (latents.dim() - 2))
        spread = torch.tensor(std, device=latents.device, dtype=latents.dtype).view(shape)
        return (latents - torch.tensor(mean, device=latents.device, dtype=latents.dtype).view(shape)) * factor / spread
    return (latents - (config.get("shift_factor") or 0.0)) * factor


def denoiser_latents(pipeline: Any, pixels: torch.Tensor, rngs: list[torch.Generator]) -> torch.Tensor:
    """Latents `[N, C, h, w]` of images in [-1, 1], as the pipeline's denoiser sees them before they are packed.

    A pipeline that encodes reference images itself does it its own way: FLUX.2's latents are put in patches and normalised. One whose code
    never asks its autoencoder for a scale, such as Kandinsky 3, works on the latents as they are.
    """
    own, vae = getattr(pipeline, "_encode_vae_image", None), autoencoder_of(pipeline)
    if own is None:
        with working_precision(vae):
            latents = encode(vae, pixels)
        return scaled(vae, latents) if _asks_for_scale(type(pipeline)) else latents
    return own(image=pixels.to(vae.dtype), generator=rngs)


def in_layout(pipeline: Any, latents: torch.Tensor, like: torch.Tensor) -> torch.Tensor | None:
    """`latents` `[N, C, h, w]` in the layout of `like`, the noise that the pipeline prepared; None if it is none that is known."""
    for candidate in _layouts(pipeline, latents, like):
        if candidate.shape == like.shape:
            return candidate.to(like.device, like.dtype)
    return None


def is_for_video(vae: Any) -> bool:
    """Whether the autoencoder wants a dimension for time."""
    first = next((module for module in vae.modules() if isinstance(module, (torch.nn.Conv2d, torch.nn.Conv3d))), None)
    return isinstance(first, torch.nn.Conv3d)


def _asks_for_scale(cls: type) -> bool:
    """Whether a method of the class, or a base of it, names one of the settings by which latents are scaled."""
    methods = (inspect.unwrap(value) for base in cls.__mro__ for value in vars(base).values() if inspect.isfunction(value))
    return any(not SCALES.isdisjoint((*code.co_names, *code.co_consts)) for method in methods if (code := method.__code__))


def _layouts(pipeline: Any, latents: torch.Tensor, like: torch.Tensor) -> Iterator[torch.Tensor]:
    yield from (latents, latents.unsqueeze(1), latents.unsqueeze(2))
    pack = getattr(pipeline, "_pack_latents", None)
    if pack is None:
        return
    count, channels, height, width = latents.shape
    patch = pipeline.transformer.config.get("patch_size")
    known = {"batch_size": count, "num_channels_latents": channels, "height": height, "width": width, "patch_size": patch}
    wanted = {name: known[name] for name in inspect.signature(pack).parameters if name in known}
    for source in (latents, latents.unsqueeze(1)):
        try:
            yield pack(source, **wanted)
        except (RuntimeError, ValueError, TypeError):
            continue


def _decoded(vae: Any, latents: torch.Tensor) -> np.ndarray:
    pixels = vae.decode(latents.unsqueeze(2) if is_for_video(vae) else latents).sample
    return to_uint8(pixels[:, :, 0] if pixels.dim() == 5 else pixels)


@contextmanager
def working_precision(vae: Any) -> Iterator[None]:
    """For the length of the block, an autoencoder that says that it overflows in float16, as that of SDXL does, works in float32.

    Afterwards it is in float16 again: the pipeline gives it latents in that precision, or widens it for a call of its own.
    """
    widened = vae.dtype == torch.float16 and vae.config.get("force_upcast")
    if widened:
        vae.to(dtype=torch.float32)
    try:
        yield
    finally:
        if widened:
            vae.to(dtype=torch.float16)
