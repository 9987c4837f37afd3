from __future__ import annotations

import numpy as np
import pytest
import torch

from generators.networks.diffusion.respaced import Respaced, spread


def test_timesteps_reach_from_the_first_to_the_last() -> None:
    for steps in (2, 50, 100, 250, 1000):
        timesteps = spread(steps)
        assert (timesteps[0], timesteps[-1], len(set(timesteps))) == (0, 999, steps)


@pytest.mark.parametrize("k", [0, 40, 99])
def test_start_inverts_noising(k: int) -> None:
    schedule = Respaced(100)
    x0, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    x = schedule.noised(x0, k, noise)
    assert torch.allclose(schedule.start(x, noise, k), x0, atol=2e-3)
    assert torch.allclose(schedule.eps(x, x0, k), noise, atol=2e-3)


def test_steps_are_those_of_diffusers_on_the_same_timesteps() -> None:
    from diffusers import DDIMScheduler, DDPMScheduler

    betas = np.linspace(1e-4, 0.02, 1000)
    schedule = Respaced(100)
    x, eps, interpolation = (torch.randn(1, 3, 4, 4) for _ in range(3))
    ddpm = DDPMScheduler(trained_betas=betas, variance_type="learned_range", clip_sample=False)
    ddpm.set_timesteps(timesteps=schedule.timesteps[::-1])
    k = 60
    theirs = ddpm.step(torch.cat([eps, interpolation], 1), schedule.timesteps[k], x, generator=torch.Generator().manual_seed(0)).prev_sample
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    mean, log_variance = schedule.posterior(x, schedule.start(x, eps, k), interpolation, k)
    assert torch.allclose(mean + (0.5 * log_variance).exp() * noise, theirs, atol=1e-4)
    ddim = DDIMScheduler(trained_betas=betas, clip_sample=False)
    alpha = ddim.alphas_cumprod[schedule.timesteps[k]]
    assert float(alpha) == pytest.approx(schedule.alphas_cumprod[k], rel=1e-5)
    before = schedule.alphas_cumprod_prev[k]
    x0 = schedule.start(x, eps, k)
    assert torch.allclose(schedule.ddim(x, x0, k), float(np.sqrt(before)) * x0 + float(np.sqrt(1 - before)) * eps, atol=1e-3)
