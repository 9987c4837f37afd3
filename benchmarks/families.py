"""One denoising step of four of today's families at release size, with random weights: what `benchmarks/gpu.py` times of them.

Their denoisers take nearly all of an image's time. Text encoders and autoencoders are left out, and guidance doubles a step where a release
uses it. The sizes are the defaults of diffusers' classes, which are those of the releases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

TEXT = 256  # tokens of a prompt


@dataclass(frozen=True)
class Family:
    """`inputs` gives the network's arguments for a batch; `steps` is how many calls an image of the release takes."""

    name: str
    network: str  # a class of diffusers
    steps: int
    inputs: Callable[[Mapping[str, Any], int, torch.device, torch.dtype], dict[str, Any]]
    config: Mapping[str, Any] = field(default_factory=dict)

    def step(self, batch: int, device: torch.device, dtype: torch.dtype, **smaller: Any) -> Callable[[], Any]:
        """A function that makes one step for `batch` images. `smaller` replaces sizes, to try it out."""
        import diffusers

        with torch.device(device):
            network: nn.Module = getattr(diffusers, self.network)(**{**self.config, **smaller}).to(dtype).eval().requires_grad_(False)
        given = self.inputs(network.config, batch, device, dtype)  # type: ignore[arg-type]
        return torch.inference_mode()(lambda: network(**given))


def _latents(config: Mapping[str, Any], batch: int, device: torch.device, dtype: torch.dtype, text: int, **more: Any) -> dict[str, Any]:
    side = config["sample_size"]
    return {
        "hidden_states": torch.randn(batch, config["in_channels"], side, side, device=device, dtype=dtype),
        "encoder_hidden_states": torch.randn(batch, TEXT, text, device=device, dtype=dtype),
        "timestep": torch.full((batch,), 500.0, device=device, dtype=dtype),
        **more,
    }


def _flux(config: Mapping[str, Any], batch: int, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """1024 x 1024 px are 4,096 tokens of 2 x 2 latents."""
    like = {"device": device, "dtype": dtype}
    return {
        "hidden_states": torch.randn(batch, 4096, config["in_channels"], **like),
        "encoder_hidden_states": torch.randn(batch, TEXT, config["joint_attention_dim"], **like),
        "pooled_projections": torch.randn(batch, config["pooled_projection_dim"], **like),
        "timestep": torch.full((batch,), 0.5, **like),
        "guidance": torch.full((batch,), 3.5, **like),
        "img_ids": torch.zeros(4096, 3, **like),
        "txt_ids": torch.zeros(TEXT, 3, **like),
    }


def _sd3(config: Mapping[str, Any], batch: int, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    pooled = torch.randn(batch, config["pooled_projection_dim"], device=device, dtype=dtype)
    return _latents(config, batch, device, dtype, config["joint_attention_dim"], pooled_projections=pooled)


def _pixart(config: Mapping[str, Any], batch: int, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    return _latents(config, batch, device, dtype, config["caption_channels"], added_cond_kwargs={"resolution": None, "aspect_ratio": None})


def _sana(config: Mapping[str, Any], batch: int, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    return _latents(config, batch, device, dtype, config["caption_channels"])


FAMILIES = [
    Family("FLUX.1-dev 1024, a step", "FluxTransformer2DModel", 28, _flux, {"guidance_embeds": True}),
    Family(
        "Stable Diffusion 3 medium 1024, a step",
        "SD3Transformer2DModel",
        28,
        _sd3,
        {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 192},
    ),
    Family(
        "PixArt-Sigma 1024, a step",
        "PixArtTransformer2DModel",
        20,
        _pixart,
        {"caption_channels": 4096, "use_additional_conditions": False, "interpolation_scale": 2},
    ),
    Family("Sana 1.6B 1024, a step", "SanaTransformer2DModel", 20, _sana),
]
