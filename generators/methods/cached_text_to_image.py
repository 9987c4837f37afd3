"""`text_to_image` with a step cache: where a denoising step changes little, all blocks of the transformer but the first are left out.

First-block cache of diffusers: if the first block changed its input nearly as in the step before, what the other blocks added then is added
again. That changes the image and its traces, so it is a generator of its own and never an option. The decision is a mean over what is made
together, so each image is made alone: in a batch it would depend on the others. It makes images from prompts; the classes of diffusers for
edits do not tell its cache which pass of a step is which.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pydantic import Field

from generators.base import Output, Request, Result
from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError
from generators.methods.text_to_image import TextToImage
from generators.registry import register
from generators.text_to_image.sizes import denoiser_of

FEWEST_BLOCKS = 2  # the first, and one to leave out


@register("cached_text_to_image")
class CachedTextToImage(TextToImage):
    title = "Text to image, step cache"
    kinds = ("prompt",)
    reconstruction = None  # it makes no edits
    batch_size = 1

    class Parameters(TextToImage.Parameters):
        cache_threshold: float = Field(
            0.05, gt=0, le=1, description="how much the first block's change may differ from that of the step before, as a part of it"
        )

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> TextToImage:
        """As `TextToImage.load`. CheckpointError if the pipeline's denoiser is no transformer that diffusers can cache."""
        generator = super().load(checkpoint, device, dtype)
        denoiser = denoiser_of(generator.pipeline)
        blocks = sum(len(part) for part in denoiser.children() if isinstance(part, torch.nn.ModuleList))
        tells = "cache_context" in inspect.unwrap(type(generator.pipeline).__call__).__code__.co_names
        if not (tells and hasattr(denoiser, "enable_cache")) or blocks < FEWEST_BLOCKS:
            raise CheckpointError(
                f"{checkpoint.path.name}: diffusers has no step cache for {type(generator.pipeline).__name__}",
                "Use it with `text_to_image`",
            )
        return generator

    def _output(self, request: Request, seeds: list[int], settings: Any) -> Output:
        """Image by image, however many are asked for at once."""
        images: list[np.ndarray] = []
        rejected: dict[int, str] = {}
        for place, seed in enumerate(seeds):
            with self._cached(settings.cache_threshold):
                alone = super()._output(request.rows([place]), [seed], settings)
            assert isinstance(alone, Result)
            images.append(alone.images)
            if alone.rejected:
                rejected[place] = alone.rejected[0]
        return Result(np.concatenate(images), rejected)

    @contextmanager
    def _cached(self, threshold: float) -> Iterator[None]:
        """The denoiser with an empty cache, and afterwards without any."""
        from diffusers import FirstBlockCacheConfig

        denoiser = denoiser_of(self.pipeline)
        denoiser.enable_cache(FirstBlockCacheConfig(threshold=threshold))
        try:
            yield
        finally:
            denoiser.disable_cache()
