from __future__ import annotations

import torch
import torch.nn.functional as F

from generators.networks.upsample import UpsamplingConv, upsampling_kernel


def test_equals_nearest_upsampling_and_convolution() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 5, 7, 4), torch.randn(6, 5, 3, 3), torch.randn(6)
    conv = UpsamplingConv(5, 6)
    conv.load_state_dict({"weight": upsampling_kernel(weight), "bias": bias})
    wanted = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, bias, padding=1)
    assert torch.allclose(conv(x), wanted, atol=1e-5)
