"""The UNet of DDPM, DDIM and PNDM: one network, three samplers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field

from generators.base import Options
from generators.checkpoints import Checkpoint, Contents, read_weights
from generators.diffusers_files import build_part, diffusers_folder, load_part
from generators.errors import CheckpointError
from generators.networks.diffusion import ddim_names, openai_names
from generators.networks.diffusion.schedules import HO_SCHEDULE, original_schedule, require_known, schedule_of_folder
from generators.networks.state import load_exactly


class PixelUNetOptions(Options):
    """What the tensors of an original file cannot say: openai's own settings, and ermongroup's `size`."""

    size: int | None = Field(None, ge=1, description="side of the images of a file of ermongroup/ddim or luping-liu/PNDM")
    image_size: int = Field(256, ge=1, description="side of the images of a file of openai's")
    num_heads: int = -1
    num_head_channels: int = -1
    num_heads_upsample: int = -1
    use_new_attention_order: bool = False
    noise_schedule: Literal["linear", "cosine"] = "linear"
    diffusion_steps: int = Field(1000, ge=1, le=100_000, description="steps that it was trained with")
    rescale_timesteps: bool = True
    predict_xstart: bool = False


def load_pixel_unet(checkpoint: Checkpoint) -> tuple[Any, dict[str, Any]]:
    """The `UNet2DModel` of a checkpoint and its noise schedule (a diffusers scheduler configuration).

    Reads a diffusers folder or Hub repository, a single safetensors file with its configuration in the header, or a state dict of
    ermongroup/ddim or luping-liu/PNDM (option `size`: the side of its images) or of openai's guided-diffusion or improved-diffusion
    (options `image_size` and those of `openai_names.heads_of` and `schedules.original_schedule`). Raises CheckpointError for anything else.
    """
    from diffusers import DDPMScheduler, UNet2DModel

    folder = diffusers_folder(checkpoint)
    if folder is not None:
        return load_part(folder, "unet", UNet2DModel), schedule_of_folder(folder, DDPMScheduler)
    contents = read_weights(checkpoint.path)
    if "unet" in contents.config:
        schedule = dict(contents.config.get("scheduler", HO_SCHEDULE))
        return build_part(contents, "unet", UNet2DModel, checkpoint.path), require_known(schedule, schedule, checkpoint.path.name)
    state = original_state(contents)
    source = checkpoint.path.name
    if openai_names.is_openai_state(state):
        size = int(checkpoint.option("image_size", 256))
        return openai_names.build(state, size, openai_names.heads_of(checkpoint.options), source), original_schedule(checkpoint.options)
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
