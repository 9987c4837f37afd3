"""Small checkpoints with random weights, in the forms that real ones have, and manifests that use them. For the mechanics only: what
they make is noise."""

from __future__ import annotations

from pathlib import Path

import torch

from generators.checkpoints import write_safetensors


def stylegan2_checkpoint(path: Path, seed: int = 0, resolution: int = 32) -> Path:
    """A StyleGAN2 with a few thousand weights, under NVIDIA's names."""
    from generators.networks.stylegan2 import Generator

    config = {
        "z_dim": 16,
        "c_dim": 0,
        "w_dim": 16,
        "img_resolution": resolution,
        "mapping_kwargs": {"num_layers": 2},
        "channel_base": 256,
        "channel_max": 16,
    }
    torch.manual_seed(seed)
    network = Generator.from_config(config) if hasattr(Generator, "from_config") else Generator(**config)
    write_safetensors(path, network.state_dict(), config)
    return path


def ddpm_checkpoint(path: Path, seed: int = 0, size: int = 32) -> Path:
    """A diffusers UNet with a few thousand weights and its scheduler's configuration."""
    from diffusers import DDPMScheduler, UNet2DModel

    torch.manual_seed(seed)
    unet = UNet2DModel(
        sample_size=size,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    config = {"unet": dict(unet.config), "scheduler": dict(DDPMScheduler(num_train_timesteps=1000).config)}
    write_safetensors(path, {f"unet.{name}": value for name, value in unet.state_dict().items()}, _plain(config))
    return path


def _plain(config: dict[str, object]) -> dict[str, object]:
    """Without what JSON cannot hold (diffusers keeps private entries and tuples in its configurations)."""
    import json

    return json.loads(json.dumps(config, default=str))
