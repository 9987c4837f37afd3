from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from generators.networks.bilinear import BilinearUpConv


@pytest.mark.parametrize(("height", "width"), [(7, 7), (4, 9), (2, 3), (1, 1)])
def test_it_is_doubling_and_convolution_to_the_last_row(height: int, width: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(24, 10, 3, padding=1)
    x = torch.randn(2, 24, height, width)
    with torch.inference_mode():
        want = conv(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        got = BilinearUpConv(conv)(x)
    assert got.shape == want.shape
    assert (got - want).abs().max() < 3e-5 * want.std()
