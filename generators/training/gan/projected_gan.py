"""ProjectedGAN (Sauer et al. 2021): FastGAN against discriminators that see the features of a frozen network, mixed at random.

The paper's frozen network learnt from ImageNet. This one is small, and the first part of a run teaches it to tell the training pictures
apart, whatever `augment` does to them; then it is frozen. The generator is FastGAN-lite, whose skip-layer excitations begin at 64 px.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import spectral_norm

from generators.demo.pictures import Picture, channels_of
from generators.networks.gan.fastgan import SKIPS
from generators.networks.upsample import upsampling_kernel
from generators.training.gan.discriminator import augment
from generators.training.gan.projection import FEATURE_WIDTHS, FeatureNetwork, Judge, Mixing
from generators.training.gan.trainer import EMA_DECAY, samples
from generators.training.loop import Batch, Trainer, cosine, half, late_cosine, set_lr, update_ema

FEATURES_PART = 0.12  # of the steps
FEATURES_LR, LR, D_LR = 2e-3, 1e-3, 1e-3


class Doubling(nn.Conv2d):
    """Nearest x2 and a 3x3 convolution. A released file has the two as separate layers, so `weight` is that of the convolution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv_transpose2d(x, upsampling_kernel(self.weight), stride=2, padding=1)


class FastGANLite(nn.Module):
    """FastGAN-lite as it is trained, with spectral norms and batch norms, under the official names (see `networks.fastgan`)."""

    def __init__(self, z_dim: int, widths: Sequence[int], channels: int):
        super().__init__()
        self.z_dim = z_dim
        first = spectral_norm(nn.ConvTranspose2d(z_dim, 2 * widths[0], 4, bias=False))
        layers = {"init": nn.ModuleDict({"init": nn.Sequential(first, nn.BatchNorm2d(2 * widths[0]), nn.GLU(1))})}
        sizes = {4 * 2**level: width for level, width in enumerate(widths)}
        for size in list(sizes)[1:]:
            conv = spectral_norm(Doubling(sizes[size // 2], 2 * sizes[size], 3, bias=False))
            layers[f"feat_{size}"] = nn.Sequential(nn.Identity(), conv, nn.BatchNorm2d(2 * sizes[size]), nn.GLU(1))
            if size in SKIPS:
                squeeze = spectral_norm(nn.Conv2d(sizes[SKIPS[size]], sizes[size], 4, bias=False))
                excite = spectral_norm(nn.Conv2d(sizes[size], sizes[size], 1, bias=False))
                gate = nn.Sequential(nn.AdaptiveAvgPool2d(4), squeeze, nn.SiLU(), excite, nn.Sigmoid())
                layers[f"se_{size}"] = nn.ModuleDict({"main": gate})
        layers["to_big"] = spectral_norm(nn.Conv2d(widths[-1], channels, 3, padding=1))
        self.synthesis = nn.ModuleDict(layers)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        maps = {4: self.synthesis["init"]["init"](z[:, :, None, None])}
        while (name := f"feat_{(size := 2 * max(maps))}") in self.synthesis:
            x = self.synthesis[name](maps[size // 2])
            maps[size] = x * self.synthesis[f"se_{size}"]["main"](maps[SKIPS[size]]) if size in SKIPS else x
        return self.synthesis["to_big"](maps[max(maps)])


class ProjectedGANTrainer(Trainer):
    name = "projected_gan"
    batch_size = 16

    def __init__(self, size: int, pictures: Sequence[Picture], widths: tuple[int, ...] = (96, 96, 48, 16), z_dim: int = 64):
        levels = size.bit_length() - 2
        self.size, self.channels = size, channels_of(pictures)
        self.generator = FastGANLite(z_dim, (widths + widths[-1:] * levels)[:levels], self.channels)
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.features = FeatureNetwork(self.channels, len(pictures))
        self.mixing = Mixing().requires_grad_(False)
        self.judges = nn.ModuleList(Judge(size // 2**level) for level in range(len(FEATURE_WIDTHS)))
        self.features_optimizer = torch.optim.AdamW(self.features.parameters(), lr=FEATURES_LR, weight_decay=1e-2)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=LR, betas=(0.0, 0.99))
        self.d_optimizer = torch.optim.Adam(self.judges.parameters(), lr=D_LR, betas=(0.0, 0.99))

    def state(self) -> dict[str, Any]:
        return {
            "generator": self.generator, "ema": self.ema, "features": self.features, "mixing": self.mixing, "judges": self.judges,
            "features_optimizer": self.features_optimizer, "optimizer": self.optimizer, "d_optimizer": self.d_optimizer,
        }  # fmt: skip

    def step(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        real = batch.images[:, : self.channels]
        if progress < FEATURES_PART:
            set_lr(self.features_optimizer, FEATURES_LR * cosine(progress / FEATURES_PART))
            return self._learn_features(real, batch.index)
        self.features.eval().requires_grad_(False)
        done = (progress - FEATURES_PART) / (1 - FEATURES_PART)
        factor = late_cosine(done)
        set_lr(self.optimizer, LR * factor)
        set_lr(self.d_optimizer, D_LR * factor)
        return self._play(real, step)

    def _learn_features(self, images: torch.Tensor, index: torch.Tensor) -> dict[str, float]:
        logits = self.features.classify(augment(images))
        loss = F.cross_entropy(logits, index, label_smoothing=0.1)
        self.features_optimizer.zero_grad()
        loss.backward()
        self.features_optimizer.step()
        return {"recognition": loss.item(), "recognised": (logits.argmax(1) == index).float().mean().item()}

    def _play(self, real: torch.Tensor, step: int) -> dict[str, float]:
        fake = self.generator(torch.randn(len(real), self.generator.z_dim))
        self.judges.requires_grad_(True)
        on_real, on_fake = self._judge(real), self._judge(fake.detach())
        hinge = sum(
            (
                F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()
                for real_logits, fake_logits in zip(on_real, on_fake, strict=True)
            )
        )
        self.d_optimizer.zero_grad()
        hinge.backward()
        self.d_optimizer.step()
        self.judges.requires_grad_(False)
        fooled = -sum(logits.mean() for logits in self._judge(fake))
        self.optimizer.zero_grad()
        fooled.backward()
        self.optimizer.step()
        update_ema(self.ema, self.generator, step, EMA_DECAY)
        return {"discriminator": hinge.item(), "generator": fooled.item()}

    def _judge(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Logits of `images` at each depth."""
        return [judge(x) for judge, x in zip(self.judges, self.mixing(self.features(augment(images))), strict=True)]

    def sheet(self) -> np.ndarray:
        return samples(self.ema, self.ema.z_dim)

    def facts(self, pictures: Sequence[Picture]) -> dict[str, str]:
        numbers = sum(parameter.numel() for parameter in self.features.parameters())
        return {
            "generator's network": "FastGAN-lite" + ("" if self.size >= 64 else ", which has no skip-layer excitation below 64 px"),
            "feature network": f"{numbers:,} numbers, not in the file; not ImageNet: the first {FEATURES_PART:.0%} of the steps taught it "
            "to tell the training pictures apart",
        }

    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return half("", self.ema), {"attributes": {"img_resolution": self.size}}
