"""Anchors for CADDM's artifact detection: where they lie, which of them a swapped region has, and the loss (SSD, Liu et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F

VARIANCES = (0.1, 0.2)  # of centres and of sizes, as SSD encodes offsets
NEGATIVES = 2  # background anchors counted for each matched one


@dataclass(frozen=True)
class Anchors:
    """Two boxes at each position of each map: `min_sizes` by `max_sizes` pixels, and the other way round (CADDM, section 3.3)."""

    image_size: int = 224
    feature_maps: Sequence[int] = (7, 5, 3, 1)
    steps: Sequence[float] = (32, 45, 75, 224)
    min_sizes: Sequence[float] = (40, 80, 120, 224)
    max_sizes: Sequence[float] = (80, 120, 160, 224)
    clip: bool = True

    def boxes(self) -> torch.Tensor:
        """Float32 `[168, 4]`: centre x, centre y, width, height, as fractions of the image."""
        rows = []
        for size, step, small, large in zip(self.feature_maps, self.steps, self.min_sizes, self.max_sizes, strict=True):
            for i, j in product(range(size), repeat=2):
                center = [(j + 0.5) / (self.image_size / step), (i + 0.5) / (self.image_size / step)]
                a, b = small / self.image_size, large / self.image_size
                rows += [[*center, a, b], [*center, b, a]]
        boxes = torch.tensor(rows, dtype=torch.float32)
        return boxes.clamp(0, 1) if self.clip else boxes


def match(truths: torch.Tensor, anchors: torch.Tensor, threshold: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """The targets of every anchor for the swapped regions `truths` `[M, 4]` (corners, as fractions).

    An anchor belongs to the region that it overlaps most if that overlap (intersection over union) is at least `threshold`; each region
    has its best anchor in any case. Returns encoded offsets `[A, 4]` and classes `[A]` (1 in a region, 0 background, int64).
    """
    corners = torch.cat([anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], 1)
    overlaps = _overlap(truths, corners)
    best_anchor = overlaps.argmax(1)
    best_overlap, best_truth = overlaps.max(0)
    best_overlap[best_anchor] = 2.0
    best_truth[best_anchor] = torch.arange(len(truths))
    return encode(truths[best_truth], anchors), (best_overlap >= threshold).long()


def encode(boxes: torch.Tensor, anchors: torch.Tensor, variances: tuple[float, float] = VARIANCES) -> torch.Tensor:
    """Corners `[A, 4]` as offsets from their anchors, in the units of the network's output."""
    centers = ((boxes[:, :2] + boxes[:, 2:]) / 2 - anchors[:, :2]) / (variances[0] * anchors[:, 2:])
    sizes = torch.log((boxes[:, 2:] - boxes[:, :2]) / anchors[:, 2:]) / variances[1]
    return torch.cat([centers, sizes], 1)


def multibox_loss(
    loc: torch.Tensor, conf: torch.Tensor, loc_target: torch.Tensor, conf_target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth L1 of the matched offsets and cross entropy of the classes, both divided by the number of matched anchors in the batch.

    Of the background, the `NEGATIVES` anchors with the largest loss count for each matched one, image by image.
    """
    positive = conf_target > 0
    loss_loc = F.smooth_l1_loss(loc[positive], loc_target[positive], reduction="sum")
    hardness = F.cross_entropy(conf.transpose(1, 2), conf_target, reduction="none").detach().masked_fill(positive, 0)
    rank = hardness.argsort(1, descending=True).argsort(1)
    negative = rank < (NEGATIVES * positive.sum(1, keepdim=True)).clamp(max=positive.shape[1] - 1)
    counted = positive | negative
    loss_conf = F.cross_entropy(conf[counted], conf_target[counted], reduction="sum")
    matched = positive.sum().clamp(min=1)
    return loss_loc / matched, loss_conf / matched


def _overlap(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union of corners `[M, 4]` and `[A, 4]`: `[M, A]`."""
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(1) for box in (a, b))
    return shared / (area_a[:, None] + area_b[None] - shared)
