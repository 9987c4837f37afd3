"""DiT (Peebles and Xie, "Scalable Diffusion Models with Transformers", ICCV 2023): ImageNet's classes by a transformer, through diffusers.

A checkpoint is a folder as diffusers saves a DiTPipeline, or its Hub repository (facebook/DiT-XL-2-256, facebook/DiT-XL-2-512).
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

CLASSES = 1000  # the pipeline fixes the number of its unguided class at 1000


@register("dit")
class DiT(Generator):
    title = "DiT"
    family = "DM"
    kinds = ("sample",)
    licence = "CC-BY-NC-4.0"
    networks = ("pipeline.transformer", "pipeline.vae.decoder")
    batch_size = 4

    class Parameters(base.Parameters):
        steps: int = Field(250, ge=1, le=1000, description="denoising steps; the paper's 250")
        guidance_scale: float = Field(4.0, ge=1, description="how far beyond the unguided prediction; 1 is no guidance")
        class_index: int | None = Field(None, ge=0, lt=CLASSES, description="by default each image's class comes from its seed")

    def __init__(self, pipeline: Any):
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> DiT:
        from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

        folder = diffusers_folder(checkpoint)
        if folder is None or not (folder / "model_index.json").is_file():
            raise CheckpointError(f"{checkpoint.path} is no folder of a diffusers pipeline", "It should hold a model_index.json")
        transformer, vae = load_part(folder, "transformer", DiTTransformer2DModel), load_part(folder, "vae", AutoencoderKL)
        # DDIM at eta 0 is random in its first noise alone. A scheduler that adds noise would take it from torch's global stream.
        scheduler = load_part(folder, "scheduler", DDIMScheduler)
        classes = getattr(transformer.config, "num_embeds_ada_norm", None)
        if classes != CLASSES:
            raise CheckpointError(f"{folder} has {classes} classes", f"A DiTPipeline of diffusers has {CLASSES}")
        return cls(DiTPipeline(to_device(transformer, device, dtype), to_device(vae, device, dtype), scheduler))

    @property
    def resolution(self) -> int:
        factor = 2 ** (len(self.pipeline.vae.config.block_out_channels) - 1)
        return int(self.pipeline.transformer.config.sample_size) * factor

    def _sample(self, seeds: list[int], settings: Parameters) -> np.ndarray:
        classes = draw_classes(seeds, CLASSES, settings.class_index)
        assert classes is not None
        images = self.pipeline(
            class_labels=classes.tolist(),
            guidance_scale=settings.guidance_scale,
            num_inference_steps=settings.steps,
            generator=[torch_rng(seed) for seed in seeds],
            output_type="pt",
        ).images
        return to_uint8(torch.as_tensor(images), 0.0, 1.0)
