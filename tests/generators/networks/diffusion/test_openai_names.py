"""guided-diffusion's names for diffusers' UNet, there and back."""

from __future__ import annotations

import pytest
import torch

from generators.networks.diffusion.openai_names import Heads, build, openai_state, read_layout, translate

WIDTHS = (8, 16, 16)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("heads", [Heads(8), Heads(number=4), Heads(8, qkv_first=True)])
def test_names_there_and_back_give_the_same_network(residual: bool, heads: Heads) -> None:
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    plain = "ResnetDownsampleBlock2D" if residual else "DownBlock2D"
    down = (plain, "AttnDownBlock2D", plain)
    resampling = "resnet" if residual else "conv"
    unet = UNet2DModel(
        sample_size=16, in_channels=1, out_channels=2, block_out_channels=WIDTHS, layers_per_block=2, norm_num_groups=4,
        attn_norm_num_groups=4, attention_head_dim=8, resnet_time_scale_shift="scale_shift", down_block_types=down,
        up_block_types=tuple(name.replace("Down", "Up").replace("down", "up") for name in reversed(down)),
        downsample_type=resampling, upsample_type=resampling, freq_shift=0,
    )  # fmt: skip
    state = unet.state_dict()
    named = openai_state(state, heads)
    again = translate(named, read_layout(named, "the test"), heads)
    assert set(again) == set(state)
    assert all(torch.equal(value, state[key]) for key, value in again.items())
    built = build(named, 16, heads, "the test", norm_num_groups=4, attn_norm_num_groups=4)
    x = torch.randn(2, 1, 16, 16)
    if heads == Heads(8):
        with torch.no_grad():
            torch.testing.assert_close(built(x, 7).sample, unet.eval()(x, 7).sample)
