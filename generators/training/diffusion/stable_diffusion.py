"""Stable Diffusion (Rombach et al. 2022, section 3.3) in small: an autoencoder without a codebook quarters the images' sides, then a UNet
learns to denoise its latents while it looks at what a text encoder makes of the caption.

The first part of a run trains the autoencoder, the rest the UNet and, with it, the text encoder: the captions have too few words for an
encoder that was trained on other texts to be worth its size.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from generators.demo.pictures import Picture, channels_of, distinct_crops
from generators.images import to_float, to_uint8
from generators.methods.stable_diffusion import build_tokenizer
from generators.training.diffusion.captions import captions_of, learn_vocabulary, tokens_of
from generators.training.diffusion.ddpm import build_schedule, ddim_samples, plain_config, velocity_loss
from generators.training.diffusion.ldm import LatentScale, rows_in_pairs
from generators.training.loop import Batch, Trainer, cosine, half, set_lr, update_ema

AUTOENCODER_PART = 0.35  # of the steps
AUTOENCODER_LR = 2e-3
LR = 1e-3
KL_WEIGHT = 1e-4
LATENT_CHANNELS = 8
FACTOR = 4
TEXT_WIDTH = 64
NO_CAPTION = 0.1  # of the captions are left out, so that there is an unguided prediction (Ho and Salimans 2022)
GUIDANCE = 2.0  # of the sheet and of what the card says
PER_PROMPT = 16  # images that the card's measure makes of each subject


class TextDenoiser(nn.Module):
    """The UNet with the text encoder that it looks at: what is learned, and averaged, together."""

    def __init__(self, unet: nn.Module, text_encoder: nn.Module):
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, x: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor) -> Any:
        return self.unet(x, t, encoder_hidden_states=self.text_encoder(tokens)[0])


class StableDiffusionTrainer(Trainer):
    name = "stable_diffusion"
    batch_size = 16

    def __init__(self, size: int, pictures: Sequence[Picture], widths: tuple[int, ...] = (48, 64)):
        self.pictures = pictures
        captions = [captions_of(picture) for picture in pictures]
        self.subjects = list(dict.fromkeys(own[0] for own in captions))
        self.vocabulary = learn_vocabulary(sorted({caption for own in captions for caption in own}))
        self.tokenizer = build_tokenizer(self.vocabulary)
        self.tokens = [tokens_of(self.tokenizer, own) for own in captions]
        self.without = tokens_of(self.tokenizer, [""])
        self.vae = build_autoencoder(size, channels_of(pictures))
        self.scale = LatentScale()
        self.text_config = text_encoder_config(self.tokenizer)
        self.denoiser = TextDenoiser(build_unet(size // FACTOR, widths), build_text_encoder(self.text_config))
        self.ema = copy.deepcopy(self.denoiser).eval().requires_grad_(False)
        self.schedule = build_schedule(clip_sample=False)
        self.vae_optimizer = torch.optim.AdamW(self.vae.parameters(), lr=AUTOENCODER_LR, betas=(0.9, 0.99), weight_decay=1e-4)
        self.optimizer = torch.optim.AdamW(self.denoiser.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=1e-3)
        self.last_images: torch.Tensor | None = None  # of the last batch, once there was one

    def state(self) -> dict[str, Any]:
        return {
            "vae": self.vae, "scale": self.scale, "denoiser": self.denoiser, "ema": self.ema,
            "vae_optimizer": self.vae_optimizer, "optimizer": self.optimizer,
        }  # fmt: skip

    def step(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        self.last_images = batch.images
        if progress < AUTOENCODER_PART:
            set_lr(self.vae_optimizer, AUTOENCODER_LR * cosine(progress / AUTOENCODER_PART))
            return self._learn_autoencoder(batch.images)
        set_lr(self.optimizer, LR * cosine((progress - AUTOENCODER_PART) / (1 - AUTOENCODER_PART)))
        with torch.no_grad():
            latents = self.vae.encode(batch.images).latent_dist.sample()
            if self.scale.factor == 1:  # the first step of the second part
                self.scale.factor.copy_(1 / latents.std())
        tokens = torch.stack([own[torch.randint(len(own), ())] for own in (self.tokens[index] for index in batch.index)])
        denoiser: Any = self.denoiser
        tokens = torch.where(torch.rand(len(tokens), 1) < NO_CAPTION, self.without, tokens)
        loss = velocity_loss(partial(denoiser, tokens=tokens), self.schedule, latents * self.scale.factor)
        _descend(loss, self.denoiser, self.optimizer)
        update_ema(self.ema, self.denoiser, step)
        return {"denoising": loss.item()}

    def _learn_autoencoder(self, images: torch.Tensor) -> dict[str, float]:
        posterior = self.vae.encode(images).latent_dist
        decoded = self.vae.decode(posterior.sample()).sample
        error = decoded - images[:, : decoded.shape[1]]
        reconstruction = error.abs().mean() + error.square().mean()
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        _descend(reconstruction + KL_WEIGHT * divergence, self.vae, self.vae_optimizer)
        return {"reconstruction": reconstruction.item(), "divergence": divergence.item()}

    @torch.no_grad()
    def make(self, prompts: Sequence[str]) -> np.ndarray:
        """One image for each prompt, the i-th from seed i, by 25 steps of DDIM: `uint8` `[N, size, size, 3]`."""
        within = tokens_of(self.tokenizer, prompts)
        both = torch.cat([self.without.expand_as(within), within])

        def guided(x: torch.Tensor, t: torch.Tensor) -> Any:
            unguided, wanted = self.ema(torch.cat([x, x]), t, both).sample.chunk(2)
            return SimpleNamespace(sample=unguided + GUIDANCE * (wanted - unguided))

        side = self.denoiser.unet.config.sample_size
        latents = ddim_samples(guided, self.schedule, (LATENT_CHANNELS, side, side), count=len(prompts), steps=25)
        return to_uint8(self.vae.decode(latents / self.scale.factor).sample)

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Eight images of each subject; until the UNet learns, pictures of the last batch, each above what the autoencoder makes of it."""
        if self.last_images is not None and self.scale.factor == 1:
            images = self.last_images[:16]
            return rows_in_pairs(images, self.vae(images).sample)
        return self.make([subject for subject in self.subjects[:12] for _ in range(8)])

    def facts(self, pictures: Sequence[Picture]) -> dict[str, str]:
        """Whether prompts are followed: of images made for each subject, how many look most like a training picture of that subject, by
        their mean colours in 4 x 4 fields; and how many crops of `pictures` do."""
        size = self.vae.config.sample_size
        known, crops = _labelled(self.pictures, 4 * len(self.pictures), size)
        fields = _fields(crops)

        def share(subjects: Sequence[str], images: np.ndarray) -> str:
            nearest = torch.cdist(_fields(images), fields).argmin(1)
            return f"{np.mean([known[index] == subject for index, subject in zip(nearest, subjects, strict=True)]):.0%}"

        prompts = [subject for subject in self.subjects for _ in range(PER_PROMPT)]
        unseen, chance = share(*_labelled(pictures, len(pictures), size)), 1 / len(self.subjects)
        return {
            "prompts": f"{len(self.subjects)} subjects, {PER_PROMPT} images of each at guidance scale {GUIDANCE:g}",
            "images nearest to a training picture of their subject": share(prompts, self.make(prompts)),
            "the same of unseen pictures, and by chance": f"{unseen}, {chance:.0%}",
        }

    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        parts = {"unet": self.ema.unet, "text_encoder": self.ema.text_encoder, "vae": self.vae}
        config = {
            "unet": plain_config(self.ema.unet.config),
            "vae": {**plain_config(self.vae.config), "scaling_factor": self.scale.factor.item()},
            "text_encoder": self.text_config,
            "scheduler": plain_config(self.schedule.config) | {"set_alpha_to_one": False, "steps_offset": 1},
            "tokenizer": self.vocabulary,
        }
        return {key: value for name, part in parts.items() for key, value in half(f"{name}.", part).items()}, config


def build_autoencoder(size: int, out_channels: int) -> nn.Module:
    """An AutoencoderKL of factor FACTOR. It takes colour; it makes colour or grey, as its pictures are."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3, out_channels=out_channels, block_out_channels=(16, 32, 32), layers_per_block=1, norm_num_groups=8, sample_size=size,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=LATENT_CHANNELS,
    )  # fmt: skip


def build_unet(side: int, widths: tuple[int, ...]) -> nn.Module:
    """A UNet2DConditionModel with one layer a block that looks at the text at all resolutions but the lowest, and in its middle."""
    from diffusers import UNet2DConditionModel

    upper = len(widths) - 1
    return UNet2DConditionModel(
        sample_size=side, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS, block_out_channels=widths, layers_per_block=1,
        norm_num_groups=8, attention_head_dim=4, cross_attention_dim=TEXT_WIDTH,
        down_block_types=("CrossAttnDownBlock2D",) * upper + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * upper,
    )  # fmt: skip


def text_encoder_config(tokenizer: Any) -> dict[str, Any]:
    """CLIPTextConfig's settings for the words of `tokenizer`."""
    return {
        "vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length, "hidden_size": TEXT_WIDTH,
        "intermediate_size": 2 * TEXT_WIDTH, "num_hidden_layers": 1, "num_attention_heads": 4,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip


def build_text_encoder(config: dict[str, Any]) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**config))


def _descend(loss: torch.Tensor, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def _fields(images: np.ndarray) -> torch.Tensor:
    """`[N, 48]`: the mean colours in 4 x 4 fields of `uint8` images."""
    return F.adaptive_avg_pool2d(to_float(images), 4).flatten(1)


def _labelled(pictures: Sequence[Picture], count: int, size: int) -> tuple[list[str], np.ndarray]:
    """`count` crops of `pictures`, and the plainest caption of each."""
    crops = distinct_crops(pictures, count, seed=0, size=size)
    return [captions_of(picture)[0] for picture, _ in crops], np.stack([image for _, image in crops])
