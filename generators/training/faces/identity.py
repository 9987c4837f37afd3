"""A small identity network: an ArcFace trained as a face recogniser in which every person of the training pictures is a class.

SimSwap's and DiffFace's trainers begin with it and judge their swaps by it. There may be one photograph of each person. What makes it
learn faces rather than photographs is `vary`: turned, scaled, blurred, of another brightness, and with the surroundings of somebody else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from generators.demo.pictures import Picture
from generators.faces.masks import ellipse_mask
from generators.networks.faces.arcface import ArcFace, identity_vectors
from generators.training.loop import Batch, set_lr

EMBEDDING = 128
LR = 2e-3
MARGIN = 0.3  # radians, added to the angle to the own class (Deng et al. 2019, equation 3)
SCALE = 16.0


def classes_of(pictures: Sequence[Picture]) -> torch.Tensor:
    """int64 `[len(pictures)]`: the same number for pictures of the same person, or of the same photograph if nobody is named."""
    names = [picture.identity or picture.photograph for picture in pictures]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([numbers[name] for name in names])


class IdentityLearner(nn.Module):
    """The network and, for each class, the direction that its faces should have."""

    def __init__(self, size: int, classes: int):
        super().__init__()
        self.arcface = ArcFace(layers=(1, 1, 1, 1), widths=(16, 32, 64, 96), embedding_size=EMBEDDING, input_size=size)
        self.centres = nn.Parameter(torch.randn(classes, EMBEDDING))

    def vectors(self, images: torch.Tensor) -> torch.Tensor:
        """Unit identity vectors `[N, EMBEDDING]` of RGB float `[N, 3, size, size]` in [-1, 1]."""
        return identity_vectors(self.arcface, (images + 1) / 2)

    def loss(self, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Cross-entropy over the angles to all centres, the own one enlarged by MARGIN."""
        cosine = (self.vectors(images) @ F.normalize(self.centres, dim=1).T).clamp(-0.999, 0.999)
        own = F.one_hot(classes, len(self.centres)).bool()
        return F.cross_entropy(SCALE * torch.where(own, (cosine.acos() + MARGIN).cos(), cosine), classes)


class IdentityTraining:
    """What the first part of a swapper's run does: it learns to tell the people of `pictures` apart."""

    def __init__(self, size: int, pictures: Sequence[Picture]):
        self.classes = classes_of(pictures)
        self.network = IdentityLearner(size, int(self.classes.max()) + 1)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=LR, weight_decay=5e-3)

    def step(self, batch: Batch, lr_factor: float) -> dict[str, float]:
        set_lr(self.optimizer, LR * lr_factor)
        loss = self.network.train().loss(vary(batch.images), self.classes[batch.index])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"recognition": loss.item()}


def vary(images: torch.Tensor) -> torch.Tensor:
    """Each image `[N, C, size, size]` in [-1, 1] as another photograph of the same person might be; everything drawn for each alone."""
    count, _, size, _ = images.shape
    mask = ellipse_mask(size) * (torch.rand(count, 1, 1, 1) < 0.7)
    others = images.roll(1, 0)
    lit = ((images + 1) / 2).clamp_min(1e-3) ** torch.empty(count, 1, 1, 1).uniform_(-0.4, 0.4).exp() * 2 - 1
    lit = lit * torch.empty(count, 1, 1, 1).uniform_(0.7, 1.2) + torch.empty(count, 1, 1, 1).uniform_(-0.2, 0.2)
    mixed = torch.where(mask.amax((1, 2, 3), keepdim=True) > 0, mask * lit + (1 - mask) * others, lit)
    return _soften(_turn(mixed)).clamp(-1, 1)


def _turn(images: torch.Tensor, reach: float = 0.2) -> torch.Tensor:
    """Rotated by up to `reach` radians, scaled by up to a tenth, moved by up to a tenth."""
    count = len(images)
    angle, scale = torch.empty(count).uniform_(-reach, reach), torch.empty(count).uniform_(-0.1, 0.1).exp()
    shift = torch.empty(count, 2, 1).uniform_(-0.1, 0.1)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(count, 2, 2) * scale[:, None, None]
    grid = F.affine_grid(torch.cat([turn, shift], 2), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _soften(images: torch.Tensor) -> torch.Tensor:
    """Half blurred by a random amount, then with a little noise."""
    amount = (torch.rand(len(images), 1, 1, 1) - 0.5).clamp_min(0) * 2
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return images.lerp(blurred, amount) + torch.randn_like(images) * 0.03


def margin_accuracy(vectors: torch.Tensor, again: torch.Tensor) -> tuple[float, float]:
    """Mean cosine of `vectors` with `again` (other pictures of the same people, in the same order), and with everybody else's."""
    cosine = vectors @ again.T
    same = cosine.diagonal().mean().item()
    others = (cosine.sum() - cosine.diagonal().sum()).item() / (math.prod(cosine.shape) - len(cosine))
    return same, others


def swap_facts(faces: torch.Tensor, again: torch.Tensor, swapped: torch.Tensor, conditions: str = "") -> dict[str, str]:
    """What swaps do to the identity, for a model card. All are unit vectors `[N, EMBEDDING]`: of the faces, of other crops of them, and of
    the faces with the identity of the one before swapped onto each."""
    source = faces.roll(1, 0)
    before_source, after_source = (faces * source).sum(1), (swapped * source).sum(1)
    same, others = margin_accuracy(faces, again)
    return {
        "measured on": f"{len(faces)} faces, each the target of the one before it{conditions}",
        "identity cosine with the source, before and after the swap": f"{before_source.mean():.3f}, {after_source.mean():.3f}",
        "identity cosine with the target after the swap": f"{(swapped * faces).sum(1).mean():.3f}",
        "swaps that moved towards the source": f"{(after_source > before_source).float().mean():.0%}",
        "identity cosine of two crops of one face, of two faces": f"{same:.3f}, {others:.3f}",
    }
