"""LDM (Rombach et al. 2022): an autoencoder with a codebook quarters the images' sides, then a UNet learns to denoise its latents.

The first two fifths of a run train the autoencoder, the rest the UNet, on latents before quantisation and of unit variance (section 3.3).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from generators.demo.pictures import Picture, channels_of
from generators.images import to_uint8
from generators.training.diffusion.ddpm import build_schedule, build_unet, ddim_samples, plain_config, velocity_loss
from generators.training.loop import Batch, Trainer, cosine, half, set_lr, update_ema

AUTOENCODER_PART = 0.4  # of the steps
AUTOENCODER_LR = 2e-3
UNET_LR = 8e-4
LATENT_CHANNELS = 4
FACTOR = 4
REVIVE_EVERY = 25  # steps after which codes that the last batch did not use are put onto latents that it had


class LatentScale(nn.Module):
    """What makes the latents' variance one. A module, so that it is kept with the state of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(()))


class LDMTrainer(Trainer):
    name = "ldm"
    batch_size = 16

    def __init__(self, size: int, pictures: Sequence[Picture], widths: tuple[int, ...] = (48, 64)):
        self.vqvae = build_autoencoder(size, channels_of(pictures))
        self.scale = LatentScale()
        self.unet = build_unet(size // FACTOR, widths, LATENT_CHANNELS)
        self.ema = copy.deepcopy(self.unet).eval().requires_grad_(False)
        self.schedule = build_schedule(clip_sample=False)
        self.vq_optimizer = torch.optim.AdamW(self.vqvae.parameters(), lr=AUTOENCODER_LR, betas=(0.9, 0.99), weight_decay=1e-4)
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), lr=UNET_LR, betas=(0.9, 0.99), weight_decay=1e-3)
        self.last_images: torch.Tensor | None = None  # of the last batch, once there was one

    def state(self) -> dict[str, Any]:
        return {
            "vqvae": self.vqvae, "scale": self.scale, "unet": self.unet, "ema": self.ema,
            "vq_optimizer": self.vq_optimizer, "optimizer": self.optimizer,
        }  # fmt: skip

    def step(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        self.last_images = batch.images
        if progress < AUTOENCODER_PART:
            set_lr(self.vq_optimizer, AUTOENCODER_LR * cosine(progress / AUTOENCODER_PART))
            return self._learn_autoencoder(batch.images, step)
        set_lr(self.optimizer, UNET_LR * cosine((progress - AUTOENCODER_PART) / (1 - AUTOENCODER_PART)))
        with torch.no_grad():
            latents = self.vqvae.encode(batch.images).latents
            if self.scale.factor == 1:  # the first step of the second part
                self.scale.factor.copy_(1 / latents.std())
        loss = velocity_loss(self.unet, self.schedule, latents * self.scale.factor)
        descend(loss, self.unet, self.optimizer)
        update_ema(self.ema, self.unet, step)
        return {"denoising": loss.item()}

    def _learn_autoencoder(self, images: torch.Tensor, step: int) -> dict[str, float]:
        latents = self.vqvae.encode(images).latents
        if step % REVIVE_EVERY == 0:
            revive(self.vqvae.quantize, latents.detach(), everything=step == 0)
        decoded = self.vqvae.decode(latents)
        error = decoded.sample - images[:, : decoded.sample.shape[1]]
        reconstruction = error.abs().mean() + error.square().mean()
        descend(reconstruction + decoded.commit_loss, self.vqvae, self.vq_optimizer)
        return {"reconstruction": reconstruction.item(), "commitment": decoded.commit_loss.item()}

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Samples; until the UNet learns, pictures of the last batch, each above what the autoencoder makes of it."""
        if self.last_images is not None and self.scale.factor == 1:
            images = self.last_images[:16]
            return rows_in_pairs(images, self.vqvae(images).sample)
        side = self.unet.config.sample_size
        latents = ddim_samples(self.ema, self.schedule, (LATENT_CHANNELS, side, side), count=48, steps=50)
        return to_uint8(self.vqvae.decode(latents / self.scale.factor).sample)

    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        config = {
            "unet": plain_config(self.ema.config),
            "vqvae": {**plain_config(self.vqvae.config), "scaling_factor": self.scale.factor.item()},
            "scheduler": plain_config(self.schedule.config),
        }
        return half("unet.", self.ema) | half("vqvae.", self.vqvae), config


def build_autoencoder(size: int, out_channels: int) -> nn.Module:
    """A VQModel of factor FACTOR. It takes colour, so that any image can be given to it; it makes colour or grey, as its pictures are."""
    from diffusers import VQModel

    return VQModel(
        in_channels=3, out_channels=out_channels, block_out_channels=(16, 32, 48), layers_per_block=1, norm_num_groups=8, sample_size=size,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=LATENT_CHANNELS, num_vq_embeddings=512,
    )  # fmt: skip


def descend(loss: torch.Tensor, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


@torch.no_grad()
def revive(quantize: nn.Module, latents: torch.Tensor, everything: bool) -> None:
    """Moves codes that no latent is nearest to (or all) onto latents drawn at random."""
    vectors = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    codes = quantize.embedding.weight
    used = torch.cdist(vectors, codes).argmin(1).bincount(minlength=len(codes)) > 0
    idle = torch.ones_like(used) if everything else ~used
    codes[idle] = vectors[torch.randint(len(vectors), (int(idle.sum()),))]


def rows_in_pairs(images: torch.Tensor, decoded: torch.Tensor) -> np.ndarray:
    """Rows of eight images, each above the row of what an autoencoder makes of them: `uint8` `[2 N, H, W, 3]`."""
    decoded = decoded.expand(-1, 3, -1, -1)
    return np.concatenate([to_uint8(rows) for pair in zip(images.split(8), decoded.split(8), strict=True) for rows in pair])
