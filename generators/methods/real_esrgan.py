"""Real-ESRGAN (Wang et al., ICCVW 2021): enlarges pictures and removes noise and compression.

A checkpoint is one of the release's files: RealESRGAN_x4plus.pth, RealESRGAN_x2plus.pth, RealESRGAN_x4plus_anime_6B.pth,
realesr-general-x4v3.pth, realesr-animevideov3.pth. realesr-general-x4v3.pth may have the component `wdn`, realesr-general-wdn-x4v3.pth:
then `denoise_strength` mixes the two. Option `activation` ("leakyrelu" or "relu"): of a small network whose file has no weights for it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from pydantic import Field, model_validator

from generators import base
from generators.base import EditInput
from generators.checkpoints import Checkpoint, read_weights
from generators.errors import CheckpointError, InputError
from generators.images import to_float, to_uint8
from generators.networks.restoration.rrdb import RRDBNet
from generators.networks.restoration.srvgg import SRVGGNetCompact
from generators.networks.restoration.upscale import resized, upscale
from generators.registry import register
from generators.restorer import Mask, Region, RestorationParameters, Restorer, released_state

Network = RRDBNet | SRVGGNetCompact
FACE_SIZE = 512
MIX = 0.5  # the official tool's denoise strength


@register("real_esrgan")
class RealESRGAN(Restorer):
    """Nothing in it is random: the seeds of an edit change nothing."""

    title = "Real-ESRGAN"
    licence = "BSD-3-Clause"
    components = ("wdn", "parsing")
    batch_size = 1  # a whole picture at four times its size fills a device

    class Options(base.Options):
        activation: str = "leakyrelu"

    class Parameters(RestorationParameters):
        region: Region = "picture"
        mask: Mask = "square"
        outscale: float | None = Field(
            None, gt=0, le=8, description="picture: how many times larger it becomes; by default as much as the network makes it"
        )
        denoise_strength: float | None = Field(
            None, ge=0, le=1, description="with the component wdn: 1 removes all noise, 0 keeps most; 0.5 by default"
        )
        tile: int = Field(0, ge=0, description="side of the tiles in pixels; 0 takes the picture whole")
        tile_pad: int = Field(10, ge=0, description="pixels around each tile that the network sees")
        pre_pad: int = Field(0, ge=0, description="reflected pixels at the right and at the bottom")

        @model_validator(mode="after")
        def _outscale_is_of_pictures(self) -> RealESRGAN.Parameters:
            if self.region == "face" and self.outscale is not None:
                raise ValueError("outscale is a setting of `region: picture`; with faces give `upscale`")
            return self

    def __init__(self, network: Network, checkpoint: Checkpoint, wdn: Network | None, device: str | torch.device, dtype: torch.dtype):
        self.network = network.eval().requires_grad_(False).to(device, dtype)
        self.general, self.wdn = {key: value.clone() for key, value in network.state_dict().items()} if wdn else {}, wdn
        self.strength = 1.0
        self.checkpoint = checkpoint
        self.device, self.dtype = torch.device(device), dtype

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> RealESRGAN:
        wdn = _network(checkpoint.components["wdn"]) if "wdn" in checkpoint.components else None
        network = _network(checkpoint)
        if wdn is not None and _shapes(wdn) != _shapes(network):
            raise CheckpointError(
                f"{checkpoint.components['wdn'].path.name} and {checkpoint.path.name} are not of one network",
                "The component `wdn` belongs to realesr-general-x4v3.pth alone",
            )
        return cls(network, checkpoint, wdn, device, dtype)

    @property
    def resolution(self) -> int:
        """Of faces. A whole picture may have any size."""
        return FACE_SIZE

    @classmethod
    def edit_input(cls, settings: Any) -> EditInput:
        return "faces" if settings.region == "face" else "picture"

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Parameters) -> np.ndarray:
        self._mix(settings.denoise_strength)
        pixels = to_float(images, 0.0, 1.0, self.device).to(self.dtype)
        enlarged = upscale(self.network, pixels, tile=settings.tile, tile_pad=settings.tile_pad, pre_pad=settings.pre_pad)
        restored = to_uint8(enlarged, 0.0, 1.0)
        if settings.region == "face":  # the crop's own size again
            size = (images.shape[2], images.shape[1])
            return np.stack([cv2.resize(face, size, interpolation=cv2.INTER_AREA) for face in restored])
        if settings.outscale in (None, self.network.scale):
            return restored
        return np.stack([resized(picture, images.shape[1:3], settings.outscale) for picture in restored])

    def _mix(self, strength: float | None) -> None:
        """Gives the network the weights of this denoise strength: strength * general + (1 - strength) * wdn."""
        if self.wdn is None:
            if strength is not None:
                raise InputError(f"{self.name}: denoise_strength needs the component 'wdn'", "Leave it out, or name the component")
            return
        strength = MIX if strength is None else strength
        if strength != self.strength:
            other = self.wdn.state_dict()
            mixed = {key: strength * value.float() + (1 - strength) * other[key].to(value.device) for key, value in self.general.items()}
            self.network.load_state_dict(mixed)
            self.strength = strength


def _network(checkpoint: Checkpoint) -> Network:
    state, source = released_state(read_weights(checkpoint.path)), checkpoint.path.name
    if "conv_first.weight" in state:
        if any(key.startswith("RRDB_trunk.") for key in state):
            raise CheckpointError(f"{source} has the older ESRGAN's names", "Use a file of the Real-ESRGAN releases")
        return RRDBNet.from_state(state, source)
    if "body.0.weight" in state:
        return SRVGGNetCompact.from_state(state, source, checkpoint.option("activation", "leakyrelu"))
    raise CheckpointError(
        f"{source} is no network of Real-ESRGAN's", "It should have conv_first.weight or body.0.weight; a discriminator has neither"
    )


def _shapes(network: Network) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in network.state_dict().items()}
