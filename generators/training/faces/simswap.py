"""SimSwap (Chen et al. 2020, sections 3.2 and 3.3), small: an identity network first, then the swapper that it guides.

Four things pull at a swap: the identity of the source; a discriminator that it should look like a photograph; the target's deep features,
which it should keep (weak feature matching); and a composite, the source's face in the target's light laid softly over the target's, which
is the target itself where source and target are the same. The paper has no composite; with a few dozen faces, and an identity network that
knows no more, the identity alone would be got by patterns that are no face.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from generators.demo.pictures import Picture, channels_of, distinct_crops
from generators.faces.masks import ellipse_mask
from generators.images import to_float, to_uint8
from generators.networks.faces.simswap import SimSwapGenerator
from generators.training.faces.identity import EMBEDDING, IdentityTraining, swap_facts, vary
from generators.training.gan.discriminator import Discriminator, DiscriminatorLearner
from generators.training.loop import Batch, Trainer, cosine, half, set_lr, update_ema

IDENTITY_PART = 0.5  # of the steps
LR = 1.5e-3
EMA_DECAY = 0.998
SAME = 4  # one pair in so many has the same source and target
WEIGHTS = {"identity": 0.5, "composite": 10.0, "features": 1.0, "fooled": 1.0}


class SimSwapTrainer(Trainer):
    name = "simswap"
    batch_size = 16

    def __init__(self, size: int, pictures: Sequence[Picture], widths: tuple[int, ...] = (32, 64, 96), n_blocks: int = 3):
        self.size, self.pictures, self.channels = size, pictures, channels_of(pictures)
        self.recognition = IdentityTraining(size, pictures)
        self.identity = self.recognition.network
        self.generator = SimSwapGenerator(widths, EMBEDDING, n_blocks)
        if self.channels == 1:  # three equal colours from the start: their gradients are equal too, and so they stay
            with torch.no_grad():
                for parameter in self.generator.last_layer.parameters():
                    parameter.copy_(parameter[:1].expand_as(parameter))
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminator = DiscriminatorLearner(Discriminator(size, self.channels, 64))
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=LR, betas=(0.5, 0.99))
        self.mask = ellipse_mask(size)

    def state(self) -> dict[str, Any]:
        return {
            "identity": self.identity, "identity_optimizer": self.recognition.optimizer,
            "generator": self.generator, "ema": self.ema, "optimizer": self.optimizer,
            "discriminator": self.discriminator.network, "d_optimizer": self.discriminator.optimizer,
        }  # fmt: skip

    def step(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        if progress < IDENTITY_PART:
            return self.recognition.step(batch, cosine(progress / IDENTITY_PART))
        return self._learn_swap(batch.images, step, cosine((progress - IDENTITY_PART) / (1 - IDENTITY_PART)))

    def _learn_swap(self, targets: torch.Tensor, step: int, lr_factor: float) -> dict[str, float]:
        self.identity.eval().requires_grad_(False)
        same = torch.arange(len(targets)) % SAME == 0
        sources = torch.where(same[:, None, None, None], targets, targets.roll(1, 0))
        wanted = self.identity.vectors(sources)
        swapped = self._swap(self.generator, targets, wanted)
        losses = self.discriminator.learn(targets[:, : self.channels], swapped.detach()[:, : self.channels], step=step, lr_factor=lr_factor)
        features = self.discriminator.network.features
        with torch.no_grad():
            of_targets = features(targets[:, : self.channels])
        terms = {
            # Seen through `vary`'s turns and blurs too, so that the identity must be in the face and not in some pattern of pixels.
            "identity": 1 - (self.identity.vectors(torch.cat([swapped, vary(swapped)])) * wanted.repeat(2, 1)).sum(1).mean(),
            "composite": (swapped - composite(sources, targets, self.mask)).abs().mean(),
            "features": (features(swapped[:, : self.channels]) - of_targets).abs().mean(),
            "fooled": self.discriminator.fooled(swapped[:, : self.channels]),
        }
        set_lr(self.optimizer, LR * lr_factor)
        self.optimizer.zero_grad()
        sum(WEIGHTS[name] * term for name, term in terms.items()).backward()
        self.optimizer.step()
        update_ema(self.ema, self.generator, step, EMA_DECAY)
        return {**losses, **{name: term.item() for name, term in terms.items()}}

    def _swap(self, network: nn.Module, targets: torch.Tensor, identities: torch.Tensor) -> torch.Tensor:
        """Swapped images in [-1, 1], `[N, 3, size, size]`; grey ones where the pictures are."""
        swapped = network((targets + 1) / 2, identities) * 2 - 1
        return swapped.mean(1, keepdim=True).expand(-1, 3, -1, -1) if self.channels == 1 else swapped

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Rows of eight: sources, targets, swaps, three times."""
        faces = to_float(np.stack([image for _, image in distinct_crops(self.pictures, 24, seed=0, size=self.size)]))
        swapped = self._swap(self.ema, faces, self.identity.eval().vectors(faces.roll(1, 0)))
        return np.concatenate(
            [to_uint8(rows) for group in zip(faces.roll(1, 0).split(8), faces.split(8), swapped.split(8), strict=True) for rows in group]
        )

    @torch.no_grad()
    def facts(self, pictures: Sequence[Picture]) -> dict[str, str]:
        """What swaps do to the identity on `pictures`, measured by the identity network itself: each face onto the next one."""
        faces = to_float(np.stack([image for _, image in distinct_crops(pictures, len(pictures), seed=0, size=self.size)]))
        again = to_float(np.stack([image for _, image in distinct_crops(pictures, len(pictures), seed=1, size=self.size)]))
        vectors = self.identity.eval().vectors(faces)
        swapped = self.identity.vectors(self._swap(self.ema, faces, vectors.roll(1, 0)))
        return swap_facts(vectors, self.identity.vectors(again), swapped)

    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors = half("generator.", self.ema) | half("arcface.", self.identity.arcface)
        if self.channels == 1:  # equal up to rounding; now equal
            for key in ("generator.last_layer.1.weight", "generator.last_layer.1.bias"):
                tensors[key] = self.ema.get_parameter(key.removeprefix("generator.")).mean(0, keepdim=True).repeat_interleave(3, 0).half()
        return tensors, {"form": "fs_networks", "size": self.size, "crop": "aligned", "arcface_input_size": self.size}


def composite(sources: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`targets` with the faces of `sources` (`[N, 3, H, W]` in [-1, 1]) where `mask` `[1, 1, H, W]` is 1, their mean and contrast over the
    face made the target's."""
    area = mask.sum()

    def statistics(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = (images * mask).sum((2, 3), keepdim=True) / area
        return mean, (((images - mean).square() * mask).sum((2, 3), keepdim=True) / area + 1e-4).sqrt()

    (source_mean, source_spread), (target_mean, target_spread) = statistics(sources), statistics(targets)
    lit = (sources - source_mean) / source_spread * target_spread + target_mean
    return targets.lerp(lit.clamp(-1, 1), mask.expand_as(targets))
