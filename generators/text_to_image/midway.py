"""Denoising that begins in the middle, for pipelines that only make images from texts (SDEdit, Meng et al. 2022, Algorithm 1).

The pipeline runs as it is. Its scheduler is a copy that hands out the last timesteps alone, and the noise that it prepares becomes the
noised latents of the image. Inside a mask, the rest is put back after each step at the noise of that step (Blended Latent Diffusion,
Avrahami et al. 2023, Algorithm 1).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch

from generators.errors import InputError
from generators.text_to_image.latents import in_layout
from generators.text_to_image.sizes import autoencoder_of


def can_begin_midway(pipeline: Any) -> bool:
    """Whether the pipeline prepares noise in one place, has an autoencoder, and its scheduler can add noise."""
    scheduler = pipeline.scheduler
    adds = hasattr(scheduler, "scale_noise") or hasattr(scheduler, "add_noise")
    return adds and hasattr(pipeline, "prepare_latents") and hasattr(autoencoder_of(pipeline), "encode")


def continue_from(pipeline: Any, latents: torch.Tensor, strength: float, options: dict[str, Any], mask: torch.Tensor | None = None) -> Any:
    """What `pipeline(**options)` gives when it begins at `latents`, noised to `strength` (above 0) of the schedule.

    `latents` is `[N, C, h, w]` as the denoiser sees them, `mask` `[N, 1, h, w]` with 1 where the image is to change. Raises InputError if
    the pipeline's latents have a layout that is not known.
    """
    run = _Midway(pipeline, latents, strength, mask)
    scheduler, pipeline.scheduler = pipeline.scheduler, run.scheduler
    pipeline.prepare_latents = run.prepare_latents
    try:
        return pipeline(**options)
    finally:
        pipeline.scheduler = scheduler
        del pipeline.prepare_latents


def _in_place_of(method: Callable[..., Any], other: Callable[..., Any]) -> Callable[..., Any]:
    """`other` with the signature of `method`: pipelines look at what a scheduler's methods take."""

    @functools.wraps(method)
    def call(*values: Any, **named: Any) -> Any:
        return other(*values, **named)

    return call


class _Midway:
    """One run: the scheduler's copy, and the tensor in which the pipeline holds its latents before the first step."""

    def __init__(self, pipeline: Any, clean: torch.Tensor, strength: float, mask: torch.Tensor | None):
        self._pipeline = pipeline
        self._prepare = pipeline.prepare_latents
        self._clean, self._strength, self._mask = clean, strength, mask
        self._current: torch.Tensor | None = None  # what the pipeline will denoise
        self._mask_packed: torch.Tensor | None = None
        self._timesteps: torch.Tensor | None = None  # all of them
        self._begin = self._done = 0
        self.scheduler = copy.deepcopy(pipeline.scheduler)
        self._set_timesteps, self._step = self.scheduler.set_timesteps, self.scheduler.step
        self._set_begin = getattr(self.scheduler, "set_begin_index", None)
        self.scheduler.set_timesteps = _in_place_of(self._set_timesteps, self.set_timesteps)
        self.scheduler.step = _in_place_of(self._step, self.step)
        if self._set_begin is not None:
            self.scheduler.set_begin_index = lambda begin_index=0: None  # some pipelines set it to 0 just before the first step

    def prepare_latents(self, *values: Any, **named: Any) -> Any:
        """The pipeline's own, but that its noise is kept, and becomes the noised image once the timesteps are known."""
        prepared = self._prepare(*values, **named)
        noise = prepared[0] if isinstance(prepared, tuple) else prepared
        self._current = noise.clone()
        self._noise = noise / getattr(self.scheduler, "init_noise_sigma", 1.0)
        clean = in_layout(self._pipeline, self._clean, noise)
        if clean is None:
            shapes = f"{tuple(noise.shape)}, not {tuple(self._clean.shape)}"
            raise InputError(f"{type(self._pipeline).__name__} cannot edit: its latents are {shapes}", "Use it in a prompt step alone")
        self._clean_packed = clean
        if self._mask is not None:
            self._mask_packed = in_layout(self._pipeline, self._mask.expand_as(self._clean), noise)
        self._place()
        return (self._current, *prepared[1:]) if isinstance(prepared, tuple) else self._current

    def set_timesteps(self, *values: Any, **named: Any) -> None:
        self._set_timesteps(*values, **named)
        every = self.scheduler.timesteps
        order = getattr(self.scheduler, "order", 1)
        count = -(-len(every) // order)
        self._begin = max(count - max(1, int(count * self._strength)), 0) * order
        if self._set_begin is not None:
            self._set_begin(self._begin)
        self._timesteps = every
        self.scheduler.timesteps = every[self._begin :]  # until the first step: what the pipeline loops over
        self._place()

    def step(self, *values: Any, **named: Any) -> Any:
        assert self._timesteps is not None
        self.scheduler.timesteps = self._timesteps
        result = self._step(*values, **named)
        self._done += 1
        if self._mask_packed is None:
            return result
        sample = result[0]
        blended = sample + (1 - self._mask_packed) * (self._known() - sample)
        if isinstance(result, tuple):
            return (blended.to(sample.dtype), *result[1:])
        result.prev_sample = blended.to(sample.dtype)
        return result

    def _place(self) -> None:
        """Puts the noised image where the pipeline has its noise, once both it and the timesteps are there."""
        if self._current is not None and self._timesteps is not None:
            whole, self.scheduler.timesteps = self.scheduler.timesteps, self._timesteps
            self._current.copy_(self._noised(self._begin))
            self.scheduler.timesteps = whole

    def _known(self) -> torch.Tensor:
        """The image at the noise that is left after the steps so far; itself after the last."""
        assert self._timesteps is not None
        after = self._begin + self._done
        return self._clean_packed if after >= len(self._timesteps) else self._noised(after)

    def _noised(self, position: int) -> torch.Tensor:
        assert self._timesteps is not None
        at = self._timesteps[position : position + 1].expand(len(self._clean_packed))
        if hasattr(self.scheduler, "scale_noise"):
            return self.scheduler.scale_noise(self._clean_packed, at, self._noise)
        return self.scheduler.add_noise(self._clean_packed, self._noise, at)
