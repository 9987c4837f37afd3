"""Random affine and perspective warps of image batches, differentiable, each image by its own random generator.

What DiffFace shows its identity network: kornia's RandomAffine(15 degrees, translate 0.1, border padding) and then RandomPerspective(0.7),
each with probability 0.7. kornia reads the single number 0.1 as a range that begins at 0, so that only the vertical shift is random. Warps
are those of kornia 0.9; its 0.6.7, which DiffFace names, stretches the picture by half a pixel at the edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from generators.transfer import constant, send

DEGREES, SHIFT, DISTORTION, PROBABILITY = 15.0, 0.1, 0.7, 0.7
DRAWS = 12  # numbers that one warp takes: whether and how for the affine (3), whether and how for the perspective (9)


def draw_warps(rngs: Sequence[torch.Generator], copies: int) -> torch.Tensor:
    """Uniform numbers `[N, copies, DRAWS]` that decide the warps of `copies` copies of each of N images."""
    return torch.stack([torch.rand(copies, DRAWS, generator=rng) for rng in rngs])


def warp(images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Square images `[M, C, S, S]` warped as `numbers` `[M, DRAWS]` say."""
    size = images.shape[-1]
    numbers = send(numbers, images.device).to(images.dtype)
    affine = torch.where(
        (numbers[:, 0] < PROBABILITY)[:, None, None],
        affine_matrix(numbers[:, 1], numbers[:, 2], size),
        torch.eye(3, device=images.device, dtype=images.dtype),
    )
    moved = _sample(images, affine, "border")
    warped = _sample(moved, perspective_matrix(numbers[:, 4:].unflatten(1, (4, 2)), size), "zeros")
    return torch.where((numbers[:, 3] < PROBABILITY)[:, None, None, None], warped, moved)


def affine_matrix(turn: torch.Tensor, shift: torch.Tensor, size: int) -> torch.Tensor:
    """Rotation about the centre and vertical shift, `[M, 3, 3]` from pixels to pixels, of numbers in [0, 1] `[M]` each."""
    angle = torch.deg2rad((2 * turn - 1) * DEGREES)
    cos, sin, zero, ones = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    centre = size / 2 - 0.5
    across = (1 - cos) * centre + sin * centre
    down = (1 - cos) * centre - sin * centre + (2 * shift - 1) * SHIFT * size
    rows = [torch.stack(row, -1) for row in ((cos, -sin, across), (sin, cos, down), (zero, zero, ones))]
    return torch.stack(rows, -2)


def perspective_matrix(inward: torch.Tensor, size: int) -> torch.Tensor:
    """The homography `[M, 3, 3]`, pixels to pixels, that moves each corner inwards by up to DISTORTION of half the side.

    `inward`: `[M, 4, 2]` in [0, 1], for the corners clockwise from the upper left.
    """
    end = float(size - 1)
    corners = constant(((0.0, 0.0), (end, 0.0), (end, end), (0.0, end)), inward.device, inward.dtype)
    signs = constant(((1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)), inward.device, inward.dtype)
    moved = corners + DISTORTION * size / 2 * inward * signs
    x, y = corners.expand_as(moved).unbind(-1)
    u, v = moved.unbind(-1)
    zero, ones = torch.zeros_like(x), torch.ones_like(x)
    across = torch.stack([x, y, ones, zero, zero, zero, -u * x, -u * y], -1)
    down = torch.stack([zero, zero, zero, x, y, ones, -v * x, -v * y], -1)
    solved = torch.linalg.solve_ex(torch.cat([across, down], 1), torch.cat([u, v], 1)).result  # `solve` waits for its check
    return torch.cat([solved, torch.ones_like(solved[:, :1])], 1).unflatten(1, (3, 3))


def _sample(images: torch.Tensor, matrix: torch.Tensor, padding: str) -> torch.Tensor:
    """`images` with each pixel moved by `matrix`, bilinear between the middles of the pixels."""
    size = images.shape[-1]
    line = torch.arange(size, device=images.device, dtype=images.dtype)
    points = torch.stack([*torch.meshgrid(line, line, indexing="xy"), torch.ones(size, size, device=images.device, dtype=images.dtype)], -1)
    origins = points.flatten(0, 1) @ torch.linalg.inv_ex(matrix).inverse.transpose(1, 2)
    grid = ((2 * origins[..., :2] / origins[..., 2:] + 1) / size - 1).unflatten(1, (size, size))
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
