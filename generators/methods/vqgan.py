"""VQGAN (Esser et al. 2021): codes drawn one by one by a transformer, and decoded; taming-transformers' Lightning checkpoints or our form.

Options, for what a checkpoint's tensors cannot say: `n_head` (16 in the releases), `sos_token` (0, the code that unconditional sampling
starts with), `resolution` (only where `block_size` is not the number of codes of an image, as in conditional models).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from generators.base import EditInput, Generator, Options, Output, Parameters
from generators.checkpoints import Checkpoint, read_weights
from generators.errors import CheckpointError, InputError
from generators.images import fetch_uint8, require_colours, to_float
from generators.latent_noise import NAME, noise_field, with_noise
from generators.networks.packed import pack_linears
from generators.networks.vq.gpt import GPT, marked, sample_and_watch
from generators.networks.vq.vqgan import FirstStage
from generators.networks.vq.vqgan_layout import build
from generators.registry import register
from generators.seeding import torch_rng
from generators.transfer import send

DECODED_AT_ONCE = 4  # images; a step of the transformer serves more of them in the same time, the decoder does not


class VQGANParameters(Parameters):
    """The defaults are those of the official `sample_fast.py`. An edit encodes and decodes; `latent_noise` comes before the codes are
    looked up. `region: picture` takes the picture at its own size, and needs memory by the square of its pixels."""

    temperature: float = Field(1.0, gt=0)
    top_k: int | None = Field(250, ge=1)
    top_p: float = Field(1.0, gt=0, le=1)
    latent_noise: float = noise_field()
    region: Literal["square", "picture"] = Field(
        "square", description="edit: a square at the resolution of the checkpoint, or the whole picture at its own size"
    )
    later: ClassVar[frozenset[str]] = frozenset({NAME, "region"})


class VQGANOptions(Options):
    """See the head of this file."""

    n_head: int = Field(16, ge=1)
    sos_token: int = Field(0, ge=0)
    resolution: int | None = Field(None, ge=1)


@register("vqgan")
class VQGAN(Generator):
    title = "VQGAN"
    family = "GAN"
    kinds = ("sample", "edit")
    licence = "MIT (code); the authors state none for the weights"
    networks = ("first_stage.decoder",)  # the transformer is bound by reading its weights
    reconstruction: ClassVar[dict[str, Any] | None] = {}
    Parameters = VQGANParameters
    Options = VQGANOptions
    batch_size = 16

    def __init__(
        self, first_stage: FirstStage, transformer: GPT, resolution: int, sos_token: int, device: torch.device, dtype: torch.dtype
    ):
        self.first_stage = first_stage.eval().requires_grad_(False).to(device, dtype, memory_format=torch.channels_last)
        self.transformer = transformer.eval().requires_grad_(False).to(device, dtype)
        pack_linears(self.transformer)
        self._resolution, self.sos_token, self.device, self.dtype = resolution, sos_token, device, dtype

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> VQGAN:
        """Builds both networks from one file. CheckpointError if it is not a VQGAN with its transformer."""
        contents = read_weights(checkpoint.path)
        settings = {**contents.config, **checkpoint.options}
        first_stage, transformer = build(contents, checkpoint.path, int(settings.get("n_head", 16)))
        require_colours(first_stage.decoder.conv_out.out_channels, str(checkpoint.path))
        side = math.isqrt(transformer.block_size)
        resolution = int(settings.get("resolution", side * first_stage.factor))
        if "resolution" not in settings and side**2 != transformer.block_size:
            raise CheckpointError(
                f"{checkpoint.path}: {transformer.block_size} positions are no square image", "Give the option `resolution`"
            )
        if resolution % first_stage.factor:
            raise CheckpointError(
                f"{checkpoint.path}: resolution {resolution} is no multiple of {first_stage.factor}", "Correct the option `resolution`"
            )
        return cls(first_stage, transformer, resolution, int(settings.get("sos_token", 0)), torch.device(device), dtype)

    @property
    def resolution(self) -> int:
        return self._resolution

    def _sample(self, seeds: list[int], settings: VQGANParameters) -> Output:
        side = self.resolution // self.first_stage.factor
        shape = (side**2, self.transformer.tok_emb.num_embeddings)
        gumbel = send(torch.stack([_gumbel(shape, torch_rng(seed, "tokens")) for seed in seeds]), self.device)
        codes, whole = sample_and_watch(self.transformer, self.sos_token, gumbel, settings.temperature, settings.top_k, settings.top_p)
        parts = zip(codes.split(DECODED_AT_ONCE), whole.split(DECODED_AT_ONCE), strict=True)
        return fetch_uint8((marked(self.first_stage.decode(part, side, side), sound) for part, sound in parts), rounding="floor")

    @classmethod
    def edit_input(cls, settings: VQGANParameters) -> EditInput:
        return "picture" if settings.region == "picture" else "square"

    def _edit(self, images: np.ndarray, seeds: list[int], settings: VQGANParameters) -> Output:
        """The images encoded to codes and decoded again. Of a picture whose sides are no multiples of the factor, the right and lower edge
        are mirrored until they are, and what is too much is cut off again."""
        factor = self.first_stage.factor
        height, width = images.shape[1:3]
        if settings.region == "picture":
            images = np.pad(images, ((0, 0), (0, -height % factor), (0, -width % factor), (0, 0)), mode="symmetric")
        elif height % factor or width % factor:
            raise InputError(
                f"{self.name} cannot encode images of {width}x{height}", f"Sides must be multiples of {factor}, or set `region: picture`"
            )
        made = self._encode_and_decode(images, seeds, settings)
        return fetch_uint8((part[:, :, :height, :width] for part in made), rounding="floor")

    def _encode_and_decode(self, images: np.ndarray, seeds: list[int], settings: VQGANParameters) -> Iterator[torch.Tensor]:
        """The images again as floats `[N, 3, H, W]` in [-1, 1], as many at once as are decoded at once."""
        factor = self.first_stage.factor
        height, width = images.shape[1:3]
        for start in range(0, len(images), DECODED_AT_ONCE):
            pixels = to_float(images[start : start + DECODED_AT_ONCE], device=self.device).to(self.dtype)
            encoded = self.first_stage.encode(pixels.contiguous(memory_format=torch.channels_last))
            own = seeds[start : start + DECODED_AT_ONCE]
            codes = self.first_stage.quantize(with_noise(encoded, settings.latent_noise, own))
            yield self.first_stage.decode(codes, height // factor, width // factor)


def _gumbel(shape: tuple[int, ...], stream: torch.Generator) -> torch.Tensor:
    """Noise from Gumbel(0, 1), float32, made in float64 so that no draw is infinite."""
    return -(-torch.rand(shape, generator=stream, dtype=torch.float64).log()).log().float()
