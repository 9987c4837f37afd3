from __future__ import annotations

import pytest
import torch
from torch import nn

from generators.networks.winograd import WinogradConv


@pytest.mark.parametrize(("height", "width"), [(28, 28), (9, 14), (3, 3), (6, 31)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution(height: int, width: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(40, 24, 3, bias=bias)
    x = torch.randn(2, 40, height, width)
    with torch.inference_mode():
        want = conv.double()(x.double())
        got = WinogradConv(conv.float())(x)
    assert got.shape == want.shape
    assert (got - want).abs().max() < 3e-5 * want.std()


@pytest.mark.parametrize(
    "conv", [nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=2)]
)
def test_other_convolutions_are_refused(conv: nn.Conv2d) -> None:
    with pytest.raises(ValueError, match="not a dense 3x3"):
        WinogradConv(conv)
