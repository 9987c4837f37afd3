"""Consistency models (Song et al. 2023), as diffusers saves them: one or a few network calls for an image.

A checkpoint is a folder with `unet/` and `scheduler/`, or a Hub repository id such as openai/diffusers-cd_imagenet64_l2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field

from generators import base
from generators.base import Generator
from generators.checkpoints import Checkpoint
from generators.diffusers_files import diffusers_folder, load_part, to_device
from generators.errors import CheckpointError
from generators.images import to_uint8
from generators.registry import register
from generators.seeding import draw_classes, torch_rng


@register("consistency")
class Consistency(Generator):
    title = "Consistency"
    family = "DM"
    kinds = ("sample",)
    licence = "MIT"
    networks = ("pipeline.unet",)

    class Parameters(base.Parameters):
        steps: int = Field(1, ge=1, le=40, description="network calls (Algorithm 1 of the paper)")
        class_index: int | None = Field(None, ge=0, description="of a network with classes; each image draws its own if not given")

    def __init__(self, pipeline: Any):
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Consistency:
        from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, UNet2DModel

        folder = diffusers_folder(checkpoint)
        if folder is None:
            raise CheckpointError(f"{checkpoint.path} is no folder of a diffusers pipeline", "It should hold unet/ and scheduler/")
        unet = to_device(load_part(folder, "unet", UNet2DModel), device, dtype)
        return cls(ConsistencyModelPipeline(unet, load_part(folder, "scheduler", CMStochasticIterativeScheduler)))

    @property
    def resolution(self) -> int:
        return int(self.pipeline.unet.config.sample_size)

    def _sample(self, seeds: list[int], settings: Parameters) -> np.ndarray:
        pixels = self.pipeline(
            batch_size=len(seeds),
            class_labels=draw_classes(seeds, self.pipeline.unet.config.num_class_embeds or 0, settings.class_index),
            num_inference_steps=settings.steps,
            generator=[torch_rng(seed) for seed in seeds],  # everything random about an image comes from its own seed
            output_type="pt",
        ).images
        return to_uint8(pixels, 0.0, 1.0)
