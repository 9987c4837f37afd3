"""PNDM: Liu et al., Pseudo Numerical Methods for Diffusion Models on Manifolds (2022). The DDPM network, sampled by multistep methods."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch

from generators.denoiser import Predict, original_timesteps
from generators.errors import InputError
from generators.pixel_denoiser import PixelDenoiser, PixelDenoiserParameters
from generators.registry import register

RUNGE_KUTTA_STEPS = 3  # before the fourth-order multistep has the predictions that it needs


@register("pndm")
class PNDM(PixelDenoiser):
    title = "PNDM"

    class Parameters(PixelDenoiserParameters):
        skip_prk_steps: bool | None = None  # begin with multistep at once, rather than with three Runge-Kutta steps of four calls
        set_alpha_to_one: bool | None = None  # the last step ends at alpha 1 rather than at the schedule's first alpha
        official: bool = False  # luping-liu/PNDM: the schedule one step later, ending at its first alpha
        method: Literal["F-PNDM", "S-PNDM", "DDIM"] = "F-PNDM"  # official: fourth order, second order, first order

    def scheduler(self, settings: Parameters) -> Any:
        from diffusers import PNDMScheduler

        chosen = {"skip_prk_steps": settings.skip_prk_steps, "set_alpha_to_one": settings.set_alpha_to_one}
        steps = self.step_count(settings)
        scheduler = self.build_scheduler(PNDMScheduler, chosen)
        prediction = scheduler.config.prediction_type
        if prediction == "sample" or (settings.official and prediction != "epsilon"):
            raise InputError(
                f"pndm: this checkpoint's network predicts {prediction!r}, which {'the official sampler' if settings.official else 'PNDM'} "
                "cannot use",
                "Sample it with ddim or ddpm",
            )
        if settings.official:
            alphas = scheduler.alphas_cumprod
            scheduler.final_alpha_cumprod, scheduler.alphas_cumprod = alphas[0], torch.cat([alphas[1:], alphas[-1:]])
            scheduler.timesteps = original_timesteps(scheduler.config.num_train_timesteps, steps)
            return scheduler
        if not scheduler.config.skip_prk_steps and steps <= RUNGE_KUTTA_STEPS:
            raise InputError(f"pndm: steps {steps} is too few for its Runge-Kutta beginning", "Take 4, or set skip_prk_steps")
        scheduler.set_timesteps(steps)
        return scheduler

    def step_options(self, settings: Parameters, rngs: list[torch.Generator]) -> dict[str, Any]:
        return {"method": settings.method} if settings.official else {}

    def timesteps_from(self, scheduler: Any, count: int) -> torch.Tensor:
        """The calls of a run that begins `count` steps before the end: its first steps are repeated calls, wherever it begins."""
        if scheduler.num_inference_steps is None:  # official: one entry for each step
            return scheduler.timesteps[-count:]
        if not scheduler.config.skip_prk_steps and count <= RUNGE_KUTTA_STEPS:
            raise InputError(
                f"pndm: an edit is too short for its Runge-Kutta beginning where it has steps {count}",
                "Raise steps or strength, or set skip_prk_steps",
            )
        ascending = scheduler._timesteps[:count]
        if scheduler.config.skip_prk_steps:
            order = list(range(count - 1, -1, -1))
            scheduler.plms_timesteps = ascending[order[:2] + order[1:]]
        else:
            half = scheduler.config.num_train_timesteps // scheduler.num_inference_steps // 2
            pairs = [[ascending[-k], ascending[-k - 1] + half] for k in range(1, RUNGE_KUTTA_STEPS + 1)]
            ends = [ascending[-k - 1] for k in range(1, RUNGE_KUTTA_STEPS + 1)]
            scheduler.prk_timesteps = np.array([[start, mid, mid, end] for (start, mid), end in zip(pairs, ends, strict=True)]).ravel()
            scheduler.plms_timesteps = ascending[:-RUNGE_KUTTA_STEPS][::-1]
        calls = np.concatenate([scheduler.prk_timesteps, scheduler.plms_timesteps]).astype(np.int64)
        scheduler.timesteps = torch.from_numpy(calls)
        return scheduler.timesteps

    def denoise(self, predict: Predict, x: torch.Tensor, scheduler: Any, timesteps: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        if scheduler.num_inference_steps is not None:
            return super().denoise(predict, x, scheduler, timesteps, options)
        alphas = torch.cat([scheduler.final_alpha_cumprod[None], scheduler.alphas_cumprod])  # alphas[t + 1] belongs to timestep t
        return pseudo_numerical(predict, x, [*timesteps.tolist(), -1], alphas, options["method"])


def pseudo_numerical(predict: Predict, x: torch.Tensor, times: Sequence[int], alphas: torch.Tensor, method: str) -> torch.Tensor:
    """PNDM's own samplers (Algorithm 2): `x` at `times[0]` denoised to `times[-1]`, which is -1 for the end.

    `predict(x, t)` is the noise in `x` at timestep `t`. `alphas[t + 1]` is the signal's share at t; a time between two timesteps takes
    the lower one's, and the network is told the time itself. F-PNDM begins with pseudo Runge-Kutta (equation 13) and goes on with the
    fourth-order pseudo linear multistep (equation 12); S-PNDM does the same in second order, with one improved Euler step.
    """

    def transfer(x: torch.Tensor, now: float, then: float, noise: torch.Tensor) -> torch.Tensor:
        """Equation 11: DDIM's step with any estimate of the noise."""
        a, b = alphas[int(now) + 1], alphas[int(then) + 1]
        return (b / a).sqrt() * x - (b - a) / (a.sqrt() * ((a * (1 - b)).sqrt() + ((1 - a) * b).sqrt())) * noise

    def noise_at(x: torch.Tensor, time: float) -> torch.Tensor:
        return predict(x, torch.full((), time, device=x.device))  # `tensor` would copy, and wait for the step before

    past: list[torch.Tensor] = []
    for now, then in pairwise(times):
        past = [*past[-3:], noise_at(x, now)]
        if method == "DDIM":
            noise = past[-1]
        elif method == "S-PNDM" and len(past) == 1:
            noise = (past[0] + noise_at(transfer(x, now, then, past[0]), then)) / 2
        elif method == "S-PNDM":
            noise = (3 * past[-1] - past[-2]) / 2
        elif len(past) <= RUNGE_KUTTA_STEPS:
            middle = (now + then) / 2
            second = noise_at(transfer(x, now, middle, past[-1]), middle)
            third = noise_at(transfer(x, now, middle, second), middle)
            fourth = noise_at(transfer(x, now, then, third), then)
            noise = (past[-1] + 2 * second + 2 * third + fourth) / 6
        else:
            noise = (55 * past[-1] - 59 * past[-2] + 37 * past[-3] - 9 * past[-4]) / 24
        x = transfer(x, now, then, noise)
    return x
