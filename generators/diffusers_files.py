"""Pipelines as diffusers saves them, read part by part.

A checkpoint of a diffusion model is one of three things. It may be a folder as diffusers saves a pipeline, or a Hub repository id, which
becomes such a folder. It may be one safetensors file with the configuration of every part in its header, {"unet": {...},
"scheduler": {...}}, and tensors under `unet.`. Or it is the state dict of an original repository, which the method translates itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from generators.checkpoints import Checkpoint, Contents
from generators.errors import CheckpointError
from generators.folder_weights import load_network
from generators.networks.state import load_exactly
from generators.quiet import libraries_quiet


def diffusers_folder(checkpoint: Checkpoint) -> Path | None:
    """The local folder of a diffusers pipeline that `checkpoint.path` names, or None if it names a file.

    A path that is not on this disk and reads `owner/name` is a Hub repository id; its files come from the Hub's cache or from the network.
    Raises CheckpointError if that cannot be had.
    """
    if checkpoint.path.is_dir():
        return checkpoint.path
    if checkpoint.path.exists() or checkpoint.path.is_absolute() or len(checkpoint.path.parts) != 2 or checkpoint.path.suffix:
        return None
    from diffusers import DiffusionPipeline

    repository = checkpoint.path.as_posix()
    wanted = {name: checkpoint.option(name) for name in ("revision", "variant")}
    try:
        return Path(DiffusionPipeline.download(repository, **wanted, trust_remote_code=False))
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise CheckpointError(
            f"{repository} is neither on this disk nor to be had from the Hub ({reason})",
            f"Go online, or fetch it with `hf download {repository}` and give its folder",
        ) from None


def load_part(folder: Path, name: str, cls: Any, **overrides: Any) -> Any:
    """A part of a saved pipeline (`unet`, `vqvae`) from its own sub-folder, or from `folder` itself, where older repositories keep it."""
    place = folder / name if (folder / name).is_dir() else folder
    config = getattr(cls, "config_name", "config.json")
    if not (place / config).is_file():
        raise CheckpointError(f"{folder} has no {name}: there is no {place / config}", "Fetch the whole repository, not parts of it alone")
    if issubclass(cls, torch.nn.Module):
        return load_network(place, cls)
    try:
        with libraries_quiet():
            return cls.from_pretrained(place, local_files_only=True, **overrides)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise CheckpointError(f"{place} holds no {cls.__name__} ({reason})", "Save the pipeline again with `save_pretrained`") from None


def build_part(contents: Contents, name: str, cls: Any, path: Path) -> Any:
    """A part of a single-file checkpoint: `cls` from the header's configuration, with the tensors under `name.`, cast to float32."""
    config = contents.config.get(name)
    if not isinstance(config, Mapping):
        raise CheckpointError(f"{path} has no configuration of its {name!r}", 'The header\'s "config" must hold one for each part')
    return load_exactly(cls.from_config(dict(config)), contents.under(f"{name}."), path.name)


def to_device(module: torch.nn.Module, device: str | torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """`module` for inference. On a GPU its convolutions run channels-last, which is where tensor cores are fast."""
    module = torch.nn.Module.to(module.eval().requires_grad_(False), device, dtype)  # diffusers' own `to` warns of every cast
    return module.to(memory_format=torch.channels_last) if torch.device(device).type == "cuda" else module
