"""Schedulers of diffusers whose noise, drawn on the host from each image's own generator, comes to a GPU without the host waiting for it.

diffusers copies the noise of a step from ordinary memory, so that the host waits at each step until the GPU has done the one before.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor

from generators.transfer import crosses, send


def draw(rngs: list[torch.Generator], like: torch.Tensor) -> torch.Tensor:
    """Standard normal noise of the shape and dtype of `like`, on its device; row i from `rngs[i]`, the numbers that diffusers draws."""
    return send(randn_tensor(like.shape, generator=rngs, device=torch.device("cpu"), dtype=like.dtype), like.device)


class HostNoiseDDIM(DDIMScheduler):
    """Its noise, where `eta` is not 0, by `draw`."""

    def step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, eta: float = 0.0, **options: Any) -> Any:
        if eta > 0 and crosses(sample.device):
            options["variance_noise"] = draw(options.pop("generator"), model_output)
        return super().step(model_output, timestep, sample, eta=eta, **options)


class HostNoiseDDPM(DDPMScheduler):
    """Its noise by `draw`. diffusers' step takes no noise, so it is asked for a step without variance, and the noise is added here."""

    _still = False

    def step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, generator: Any = None, **options: Any) -> Any:
        if timestep == 0 or not crosses(sample.device):
            return super().step(model_output, timestep, sample, generator=generator, **options)
        self._still = True
        try:
            output = super().step(model_output, timestep, sample, **options)
        finally:
            self._still = False
        predicted, told = model_output, None
        if model_output.shape[1] == 2 * sample.shape[1]:
            predicted, told = model_output.split(sample.shape[1], dim=1)
        variance = self._get_variance(timestep, predicted_variance=told)
        spread = {"fixed_small_log": lambda: variance, "learned_range": lambda: torch.exp(0.5 * variance)}
        output.prev_sample += spread.get(self.variance_type, lambda: variance**0.5)() * draw(generator, predicted)
        return output

    def _get_variance(self, t: Any, predicted_variance: torch.Tensor | None = None, variance_type: str | None = None) -> torch.Tensor:
        if not self._still:
            return super()._get_variance(t, predicted_variance, variance_type)
        return torch.tensor(-torch.inf if self.variance_type == "learned_range" else 0.0)
