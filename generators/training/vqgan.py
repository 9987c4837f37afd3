"""VQGAN (Esser et al. 2021): an autoencoder with a codebook quarters the images' sides, then a transformer learns to write the codes.

The first half of a run trains the autoencoder (equations 4 to 7), its patch discriminator from the middle of that half on; the other half
trains the transformer (equation 8). The features of the discriminator stand in for the paper's perceptual loss, whose VGG is far larger
than all of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from generators.demo.pictures import Picture, channels_of, distinct_crops
from generators.images import to_float, to_uint8
from generators.networks.vq.gpt import GPT, sample_tokens
from generators.networks.vq.vqgan import FirstStage, FirstStageConfig
from generators.seeding import torch_rng
from generators.training.diffusion.ldm import descend, revive, rows_in_pairs
from generators.training.loop import Batch, Trainer, cosine, half, set_lr

FIRST_PART = 0.5  # of the steps
ADVERSARIAL_FROM = 0.5  # of the first part
LR, GPT_LR, D_LR = 1.5e-3, 1.5e-3, 1e-3
COMMITMENT = 0.25  # beta of equation 4
FEATURES, ADVERSARIAL = 1.0, 0.4  # weights; the second on top of the adaptive one
REVIVE_EVERY = 25  # steps after which codes that the last batch did not use are put onto latents that it had
SOS_TOKEN = 0


class PatchDiscriminator(nn.Module):
    """Says for each patch of some 20 px whether it is real: `[N, C, H, W]` to its features and to logits `[N, 1, H / 4, W / 4]`."""

    def __init__(self, channels: int, width: int = 32):
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Conv2d(channels, width, 4, 2, 1), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.Conv2d(2 * width, 2 * width, 3, 1, 1)]
        )
        self.out = nn.Conv2d(2 * width, 1, 3, 1, 1)

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        features = [images]
        for layer in self.layers:
            features.append(F.leaky_relu(layer(features[-1]), 0.2))
        return features[1:], self.out(features[-1])


class VQGANTrainer(Trainer):
    name = "vqgan"
    batch_size = 8

    def __init__(self, size: int, pictures: Sequence[Picture], n_embed: int = 256, n_layer: int = 4, n_embd: int = 96):
        self.size, self.channels = size, channels_of(pictures)
        config = FirstStageConfig(
            ch=32, ch_mult=(1, 1, 2), num_res_blocks=1, attn_levels=(), z_channels=64, embed_dim=16, n_embed=n_embed, out_ch=self.channels
        )
        self.first_stage = FirstStage(config)
        self.discriminator = PatchDiscriminator(self.channels)
        self.side = size // self.first_stage.factor
        self.transformer = GPT(n_embed, self.side**2, n_layer, 4, n_embd)
        nn.init.normal_(self.transformer.tok_emb.weight, std=0.02)
        self.optimizer = torch.optim.AdamW(self.first_stage.parameters(), lr=LR, betas=(0.5, 0.9), weight_decay=1e-4)
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=D_LR, betas=(0.5, 0.9))
        self.gpt_optimizer = torch.optim.AdamW(self.transformer.parameters(), lr=GPT_LR, betas=(0.9, 0.95), weight_decay=0.01)
        self.last_images: torch.Tensor | None = None

    def state(self) -> dict[str, Any]:
        return {
            "first_stage": self.first_stage, "discriminator": self.discriminator, "transformer": self.transformer,
            "optimizer": self.optimizer, "d_optimizer": self.d_optimizer, "gpt_optimizer": self.gpt_optimizer,
        }  # fmt: skip

    def step(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        self.last_images = None
        if progress < FIRST_PART:
            self.last_images = batch.images
            part = progress / FIRST_PART
            set_lr(self.optimizer, LR * cosine(part))
            set_lr(self.d_optimizer, D_LR * cosine(part))
            return self._learn_codes(batch.images, step, adversarial=part >= ADVERSARIAL_FROM)
        set_lr(self.gpt_optimizer, GPT_LR * cosine((progress - FIRST_PART) / (1 - FIRST_PART)))
        loss = self._surprise(batch.images)
        descend(loss, self.transformer, self.gpt_optimizer)
        return {"surprise": loss.item()}

    def _learn_codes(self, images: torch.Tensor, step: int, adversarial: bool) -> dict[str, float]:
        real = images[:, : self.channels]
        z = self.first_stage.encode(images)
        if step % REVIVE_EVERY == 0:
            revive(self.first_stage.quantize, z.detach(), everything=step == 0)
        codes = self.first_stage.quantize(z.detach())
        chosen = self.first_stage.quantize.embedding(codes).view(len(z), self.side, self.side, -1).permute(0, 3, 1, 2)
        codebook = F.mse_loss(chosen, z.detach()) + COMMITMENT * F.mse_loss(z, chosen.detach())
        # The gradient goes past the choice of codes, as if they were what the encoder gave (equation 3).
        decoded = self.first_stage.decoder(self.first_stage.post_quant_conv(z + (chosen - z).detach()))
        reconstruction = (decoded - real).abs().mean() + (decoded - real).square().mean()
        losses = {"reconstruction": reconstruction.item(), "codebook": codebook.item()}
        if not adversarial:
            descend(reconstruction + codebook, self.first_stage, self.optimizer)
            return losses
        _, on_real = self.discriminator(real)
        _, on_decoded = self.discriminator(decoded.detach())
        hinge = (F.relu(1 - on_real) + F.relu(1 + on_decoded)).mean()
        descend(hinge, self.discriminator, self.d_optimizer)
        features, on_decoded = self.discriminator(decoded)
        with torch.no_grad():
            wanted, _ = self.discriminator(real)
        likeness = sum((feature - target).abs().mean() for feature, target in zip(features, wanted, strict=True))
        reconstruction, fooled = reconstruction + FEATURES * likeness, -on_decoded.mean()
        fooled = ADVERSARIAL * self._balance(reconstruction, fooled) * fooled
        descend(reconstruction + codebook + fooled, self.first_stage, self.optimizer)
        return {**losses, "discriminator": hinge.item(), "features": likeness.item()}

    def _balance(self, reconstruction: torch.Tensor, fooled: torch.Tensor) -> torch.Tensor:
        """The weight at which both losses pull equally at the decoder's last layer (equation 7)."""
        last = self.first_stage.decoder.conv_out.weight
        pulls = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, fooled)]
        return (pulls[0] / (pulls[1] + 1e-4)).clamp_max(1e4)

    def _surprise(self, images: torch.Tensor) -> torch.Tensor:
        """Mean negative log-likelihood of a code, in nats (equation 8)."""
        with torch.no_grad():
            codes = self.first_stage.quantize(self.first_stage.encode(images))
        before = F.pad(codes[:, :-1], (1, 0), value=SOS_TOKEN)
        return F.cross_entropy(self.transformer(before).flatten(0, 1), codes.flatten())

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Samples; until the transformer learns, pictures of the last batch, each above what its codes make of it."""
        if self.last_images is not None:
            images = self.last_images
            return rows_in_pairs(images, self._decode(self.first_stage.quantize(self.first_stage.encode(images))))
        shape = (self.side**2, self.transformer.tok_emb.num_embeddings)
        uniform = torch.stack([torch.rand(shape, generator=torch_rng(seed)) for seed in range(48)])
        return to_uint8(self._decode(sample_tokens(self.transformer, SOS_TOKEN, -(-uniform.clamp(1e-9).log()).log(), top_k=100)))

    def _decode(self, codes: torch.Tensor) -> torch.Tensor:
        return self.first_stage.decode(codes, self.side, self.side)

    @torch.no_grad()
    def facts(self, pictures: Sequence[Picture]) -> dict[str, str]:
        images = to_float(np.stack([image for _, image in distinct_crops(pictures, len(pictures), seed=0, size=self.size)]))
        decoded = self._decode(self.first_stage.quantize(self.first_stage.encode(images)))
        error = (decoded - images[:, : self.channels]).abs().mean().item() * 127.5
        return {
            "measured on": f"{len(images)} pictures",
            "mean absolute error of decoded codes": f"{error:.1f} grey levels",
            "nats for a code": f"{self._surprise(images).item():.2f}, {np.log(self.transformer.tok_emb.num_embeddings):.2f} being a guess",
        }

    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors = half("first_stage_model.", self.first_stage) | half("transformer.", self.transformer)
        return tensors, {"n_head": self.transformer.n_head, "sos_token": SOS_TOKEN}
