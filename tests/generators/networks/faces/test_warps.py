from __future__ import annotations

import math

import pytest
import torch

from generators.networks.faces.warps import DEGREES, DISTORTION, PROBABILITY, SHIFT, affine_matrix, draw_warps, perspective_matrix, warp
from generators.seeding import torch_rng

SIZE = 12
MIDDLE = torch.full((1,), 0.5)


def numbers(**chosen: float) -> torch.Tensor:
    """One warp that does nothing but what is chosen: affine or perspective above or below the probability, turn, shift."""
    row = torch.full((1, 12), 0.5)
    row[:, 0], row[:, 3] = chosen.get("affine", 1.0), chosen.get("perspective", 1.0)
    row[:, 1], row[:, 2] = chosen.get("turn", 0.5), chosen.get("shift", 0.5)
    row[:, 4:] = chosen.get("inward", 0.0)
    return row


def test_an_image_that_is_not_chosen_stays_as_it_is() -> None:
    image = torch.rand(1, 3, SIZE, SIZE)
    assert torch.allclose(warp(image, numbers(turn=0.9, inward=0.4)), image, atol=1e-5)
    assert torch.allclose(warp(image, numbers(affine=0.0, perspective=0.0)), image, atol=1e-5)  # chosen, but by nothing


def test_the_largest_shift_moves_down_by_a_tenth_and_repeats_the_border() -> None:
    image = torch.rand(1, 3, 10, 10)
    moved = warp(image, numbers(affine=0.0, shift=1.0))
    assert torch.allclose(moved[:, :, 1:], image[:, :, :-1], atol=1e-5)
    assert torch.allclose(moved[:, :, 0], image[:, :, 0], atol=1e-5)
    assert SHIFT == 0.1


def test_the_affine_turns_about_the_centre() -> None:
    matrix = affine_matrix(torch.ones(1), MIDDLE, SIZE)[0]
    centre = torch.tensor([SIZE / 2 - 0.5, SIZE / 2 - 0.5, 1.0])
    assert torch.allclose(matrix @ centre, centre, atol=1e-5)
    assert math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])) == pytest.approx(DEGREES, abs=1e-4)


def test_the_perspective_takes_corners_inwards_and_leaves_black_outside() -> None:
    inward = torch.rand(1, 4, 2, generator=torch.Generator().manual_seed(0))
    matrix = perspective_matrix(inward, SIZE)[0]
    reach = DISTORTION * SIZE / 2 * inward[0]
    corner = matrix @ torch.tensor([SIZE - 1.0, 0.0, 1.0])
    assert torch.allclose(corner[:2] / corner[2], torch.tensor([SIZE - 1.0, 0.0]) + reach[1] * torch.tensor([-1.0, 1.0]), atol=1e-4)
    warped = warp(torch.ones(1, 1, SIZE, SIZE), numbers(perspective=0.0, inward=1.0))
    assert warped[0, 0, 0].abs().max() == 0
    assert warped[0, 0, SIZE // 2, SIZE // 2] == 1


def test_each_image_draws_from_its_own_generator() -> None:
    whole = draw_warps([torch_rng(seed) for seed in (1, 2, 3)], 7)
    assert torch.equal(whole[1:2], draw_warps([torch_rng(2)], 7))
    shares = (draw_warps([torch_rng(0)], 4000)[..., [0, 3]] < PROBABILITY).float().mean((0, 1))
    assert torch.allclose(shares, torch.full((2,), PROBABILITY), atol=0.03)


def test_the_warp_is_differentiable() -> None:
    image = torch.rand(1, 3, SIZE, SIZE, requires_grad=True)
    warp(image, numbers(affine=0.0, perspective=0.0, turn=0.8, inward=0.3)).sum().backward()
    assert image.grad.abs().sum() > 0
