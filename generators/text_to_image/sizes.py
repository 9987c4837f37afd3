"""How large a pipeline's images are by default, and which sizes it can make at all."""

from __future__ import annotations

import inspect
import math
from typing import Any

from generators.checkpoints import Checkpoint
from generators.errors import InputError
from generators.text_to_image.folder import call_arguments

LARGEST = 8192
MOST_TOGETHER = 16
USUAL = 1024  # where neither the call nor a part says anything


def side_of(pipeline: Any, checkpoint: Checkpoint) -> int:
    """The side of the images in pixels: the checkpoint's option `size`, or what the pipeline was trained for.

    Raises InputError if the pipeline cannot make images of that size.
    """
    size = checkpoint.option("size")
    if size is None:
        return default_side(pipeline)
    step = grid_of(pipeline)
    if isinstance(size, bool) or not isinstance(size, int) or not step <= size <= LARGEST:
        raise InputError(f"{checkpoint.path.name}: the option `size` is {size!r}", f"It must be a whole number from {step} to {LARGEST}")
    if size % step:
        nearest = max(step, round(size / step) * step)
        raise InputError(f"{checkpoint.path.name}: size {size} must be a multiple of {step} for {_name(pipeline)}", f"Such as {nearest}")
    return size


def default_side(pipeline: Any) -> int:
    """What the pipeline was trained for. A pipeline with a table of sizes for each `sample_size` of its denoiser has its size from that;
    else the call's own default counts, and then the side of the latents that the pipeline or its denoiser states."""
    arguments = call_arguments(type(pipeline))
    stated = _latent_side(pipeline)
    from_call = arguments.get("height")
    if isinstance(from_call, int) and not (stated and "use_resolution_binning" in arguments):
        return from_call
    return stated * vae_factor(pipeline) if stated else USUAL


def grid_of(pipeline: Any) -> int:
    """The number of pixels that the side must be a multiple of: one latent, times the latents that the denoiser takes together, and more
    where the pipeline's own check of its inputs wants more (Stable Diffusion always wants multiples of 8)."""
    config = getattr(denoiser_of(pipeline), "config", None)
    together = 2 if hasattr(pipeline, "_pack_latents") else 1
    for name in ("patch_size", "all_patch_size"):
        value = config.get(name) if config is not None else None
        values = value if isinstance(value, (list, tuple)) else [value]
        together = max([together, *(entry for entry in values if isinstance(entry, int) and not isinstance(entry, bool))])
    least = vae_factor(pipeline) * together
    grids = range(least, least * MOST_TOGETHER + 1, least)
    return next((grid for grid in grids if all(_passes_check(pipeline, grid * times) for times in (1, 2, 3))), least)


def _passes_check(pipeline: Any, side: int) -> bool:
    """Whether the pipeline's own check says nothing against images of that side."""
    check = getattr(pipeline, "check_inputs", None)
    if check is None:
        return True
    parameters = inspect.signature(check).parameters
    values = {name: None for name, entry in parameters.items() if entry.default is entry.empty}
    given = {"prompt": "", "height": side, "width": side}
    try:
        check(**{**values, **{name: value for name, value in given.items() if name in parameters}})
    except ValueError as error:
        return "divisible" not in str(error)
    except (TypeError, AttributeError, RuntimeError):
        return True  # it wanted more than a size
    return True


def vae_factor(pipeline: Any) -> int:
    """How many pixels a side one latent stands for."""
    for name in ("vae_scale_factor", "movq_scale_factor"):
        value = getattr(pipeline, name, None)
        if isinstance(value, (int, float)) and value >= 1:
            return int(value)
    return 8 if autoencoder_of(pipeline) is not None else 1


def denoiser_of(pipeline: Any) -> Any:
    """The network that takes the noise away: the UNet or the transformer. None if it has another name."""
    names = ("unet", "transformer", "decoder", "prior")
    return next((part for part in (getattr(pipeline, name, None) for name in names) if part is not None), None)


def autoencoder_of(pipeline: Any) -> Any:
    """The autoencoder, under whatever name the pipeline has it, or None for a pipeline that works on pixels."""
    names = ("vae", "movq", "vqgan", "vqvae")
    return next((part for part in (getattr(pipeline, name, None) for name in names) if part is not None), None)


def _latent_side(pipeline: Any) -> int:
    config = getattr(denoiser_of(pipeline), "config", None)
    for value in (getattr(pipeline, "default_sample_size", None), config.get("sample_size") if config is not None else None):
        side = value[0] if isinstance(value, (list, tuple)) and value else value
        if isinstance(side, (int, float)) and not isinstance(side, bool) and side >= 1 and math.isfinite(side):
            return int(side)
    return 0


def _name(pipeline: Any) -> str:
    return type(pipeline).__name__
