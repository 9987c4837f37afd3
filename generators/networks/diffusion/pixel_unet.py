"""The UNet of DDPM, DDIM and PNDM: one network, three samplers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from generators.checkpoints import Checkpoint, Contents, read
from generators.diffusers_files import build_part, diffusers_folder, load_part
from generators.errors import CheckpointError
from generators.networks.diffusion import ddim_names, openai_names
from generators.networks.state import load_exactly

# The schedule that all models of Ho et al. were trained with, and the sampling settings of their releases on the Hub.
HO_SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
HO_SCHEDULE |= {"clip_sample": True, "variance_type": "fixed_small"}


def load_pixel_unet(checkpoint: Checkpoint) -> tuple[Any, dict[str, Any]]:
    """The `UNet2DModel` of a checkpoint and its noise schedule (a diffusers scheduler configuration).

    Reads a diffusers folder or Hub repository, a single safetensors file with its configuration in the header, or a state dict of
    ermongroup/ddim or luping-liu/PNDM (option `size`: the side of its images) or of openai/guided-diffusion without classes (options
    `image_size` and those of `openai_names.heads_of`). Raises CheckpointError for anything else.
    """
    from diffusers import DDPMScheduler, UNet2DModel

    folder = diffusers_folder(checkpoint)
    if folder is not None:
        return load_part(folder, "unet", UNet2DModel), dict(load_part(folder, "scheduler", DDPMScheduler).config)
    contents = read(checkpoint.path)
    if "unet" in contents.config:
        return build_part(contents, "unet", UNet2DModel, checkpoint.path), dict(contents.config.get("scheduler", HO_SCHEDULE))
    state = original_state(contents)
    source = checkpoint.path.name
    if openai_names.is_openai_state(state):
        size = int(checkpoint.option("image_size", 256))
        return openai_names.build(state, size, openai_names.heads_of(checkpoint.options), source), dict(HO_SCHEDULE)
    if ddim_names.is_ddim_state(state):
        unet = UNet2DModel.from_config(ddim_names.unet_config(state, checkpoint.option("size"), source))
        return load_exactly(unet, ddim_names.translate(state), source), dict(HO_SCHEDULE)
    raise CheckpointError(
        f"{source} is no diffusion network that is known here",
        "Give a diffusers folder, safetensors with configuration, or a file of ermongroup/ddim, luping-liu/PNDM or openai/guided-diffusion",
    )


def original_state(contents: Contents) -> Mapping[str, torch.Tensor]:
    """The network's tensors in a file of the original repositories.

    A released file is the bare state dict; one saved in training is a list [model, optimizer, epoch, step, EMA], of which the last
    network, the averaged one, is what their sampling uses.
    """
    marks = ("conv_in.weight", "input_blocks.0.0.weight")
    prefixes = [key.removesuffix(mark) for key in contents.tensors for mark in marks if key.endswith(mark)]
    return contents.under(prefixes[-1]) if prefixes else contents.tensors
