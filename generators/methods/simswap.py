"""SimSwap (Chen et al., ACM MM 2020): puts the identity of a source face onto a target, through an identity vector.

A checkpoint is the generator alone, with its identity network as the component `arcface`, or one safetensors file with both under the
prefixes `generator.` and `arcface.`. Widths and depths are read off the tensors. What the tensors cannot say comes from the
checkpoint's options, or from the JSON under "config" in a safetensors header:

- `form`: "fs_networks" (the default), "fs_networks_512" or "fs_networks_fix"; see `generators.networks.faces.simswap`. Models made by the
  training code since April 2022 are "fs_networks_fix", and nothing in the file tells them from the released 224 px model.
- `size`: side of the images in pixels; by default 512 for the 512 px form and for a deep fs_networks_fix, else 224.
- `crop`: "simswap", "ffhq" or "aligned"; by default "ffhq" at 512 px, else "simswap".
- `arcface_input_size`: side of the input, in pixels, of an identity network in the same file; by default 112.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field

from generators import base
from generators.base import Crop, Generator, Output
from generators.checkpoints import Checkpoint, Contents, read_weights
from generators.errors import CheckpointError
from generators.faces.kept_vectors import KeptVectors
from generators.images import fetch_uint8, imagenet_normalise, imagenet_restore, to_float
from generators.networks.faces.arcface import ArcFace, identity_vectors, load_arcface
from generators.networks.faces.simswap import FORMS, Form, SimSwapGenerator
from generators.registry import register


@register("simswap")
class SimSwap(Generator):
    """SimSwap in its three official forms. Nothing in it is random: the seeds of a swap change nothing."""

    title = "SimSwap"
    family = "GAN"
    kinds = ("swap",)
    crop: Crop  # set by `load`
    licence = "CC-BY-NC-4.0"
    networks = ("network", "arcface")
    components = ("arcface",)

    def __init__(self, network: SimSwapGenerator, arcface: ArcFace, *, form: Form, crop: Crop, device: torch.device, dtype: torch.dtype):
        self.network = network.fold().to(device, dtype)
        if device.type == "cpu" and dtype == torch.float32:
            self.network.use_winograd()
        self.arcface = arcface.fold().to(device, dtype)
        self.form = form
        self.crop = crop
        self.device = device
        self.dtype = dtype
        self._sources = KeptVectors()

    class Options(base.Options):
        """See the head of this file."""

        form: str | None = None
        size: int | None = Field(None, ge=1)
        crop: str | None = None
        arcface_input_size: int | None = Field(None, ge=1)

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> SimSwap:
        contents = read_weights(checkpoint.path)
        settings = {**contents.config, **checkpoint.options}
        name = checkpoint.path.name
        own = contents.under("generator.") or contents.tensors
        form = _form(own, settings.get("form"), name)
        network = SimSwapGenerator.from_state(own, "raw" if form == "fs_networks_fix" else "tanh", name)
        large = form == "fs_networks_512" or (form == "fs_networks_fix" and len(network.stages) > 3)
        size = int(settings.get("size", 512 if large else 224))
        crop = Crop(settings.get("crop", "ffhq" if size == 512 else "simswap"), size)
        arcface = _arcface(contents, checkpoint, settings)
        return cls(network, arcface, form=form, crop=crop, device=torch.device(device), dtype=dtype)

    @property
    def resolution(self) -> int:
        return self.crop.size

    def identities(self, sources: np.ndarray) -> torch.Tensor:
        """Unit identity vectors `[N, latent_size]` of `uint8` `[N, H, W, 3]` faces aligned as `crop` says."""
        return identity_vectors(self.arcface, to_float(sources, 0.0, 1.0, self.device).to(self.dtype))

    @torch.inference_mode()
    def embed_faces(self, faces: np.ndarray) -> np.ndarray:
        parts = [self.identities(faces[start : start + self.batch_size]) for start in range(0, len(faces), self.batch_size)]
        return torch.cat(parts).float().cpu().numpy()

    def swap_pixels(self, targets: np.ndarray, identities: torch.Tensor) -> torch.Tensor:
        """Targets `uint8` `[N, H, W, 3]` with other identities: float `[N, 3, H, W]`, black at 0 and white at 1, not clamped."""
        pixels = to_float(targets, 0.0, 1.0, self.device).to(self.dtype)
        if self.form == "fs_networks_fix":
            return imagenet_restore(self.network(imagenet_normalise(pixels), identities))
        return self.network(pixels, identities)

    def _swap(self, sources: np.ndarray, targets: np.ndarray, seeds: list[int], settings: Any) -> Output:
        identities = self._sources.of(sources, self.identities, self.dtype)
        return fetch_uint8(self.swap_pixels(targets, identities), 0.0, 1.0, "nearest")


def _form(state: Mapping[str, torch.Tensor], stated: str | None, source: str) -> Form:
    """Which official generator file `state` belongs to: from its keys where they tell (a stage 0), else as stated."""
    has_stage_0 = "down0.0.weight" in state
    if stated is not None and stated not in FORMS:
        raise CheckpointError(f"{source}: there is no SimSwap form {stated!r}", f"Known: {', '.join(FORMS)}")
    if stated is not None and has_stage_0 != (stated == "fs_networks_512"):
        raise CheckpointError(
            f"{source} is not of the form {stated}: it has {'a' if has_stage_0 else 'no'} stage down0", "Leave `form` out"
        )
    return "fs_networks_512" if has_stage_0 else stated or "fs_networks"


def _arcface(contents: Contents, checkpoint: Checkpoint, settings: dict[str, Any]) -> ArcFace:
    """The identity network from the generator's own file if it travels there, else from the component `arcface`."""
    inside = contents.under("arcface.")
    if inside:
        return ArcFace.from_state(inside, int(settings.get("arcface_input_size", 112)), checkpoint.path.name)
    return load_arcface(checkpoint.component("arcface"))
