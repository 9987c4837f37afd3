"""A diffusion process of 1000 steps walked in fewer, as openai/guided-diffusion does it: learned variances, float64 tables."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

TRAIN_STEPS = 1000
BETAS = np.linspace(1e-4, 0.02, TRAIN_STEPS)  # the linear schedule of Ho et al. 2020


def cosine_betas(largest: float = 0.999) -> np.ndarray:
    """The cosine schedule (Nichol and Dhariwal 2021, equation 17), float64 `[TRAIN_STEPS]`."""
    share = np.cos((np.arange(TRAIN_STEPS + 1) / TRAIN_STEPS + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - share[1:] / share[:-1], largest)


class Respaced:
    """`steps` of the 1000 timesteps, spread evenly from the first to the last. `k` counts them, 0 being the least noisy.

    Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021, section 4: `timesteps[k]` is what the network is told,
    the betas are those that lead over the steps left out. `betas` are those of training.
    """

    def __init__(self, steps: int, betas: np.ndarray = BETAS):
        self.timesteps = spread(steps)
        self.alphas_cumprod = np.cumprod(1 - betas)[self.timesteps]
        self.alphas_cumprod_prev = np.append(1.0, self.alphas_cumprod[:-1])
        self.betas = 1 - self.alphas_cumprod / self.alphas_cumprod_prev

    @cached_property
    def log_variances(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest log variance of a step; the smallest of step 0, which is 0, taken from step 1."""
        small = self.betas * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        return np.log(np.append(small[min(1, len(small) - 1)], small[1:])), np.log(self.betas)

    def noised(self, x0: torch.Tensor, k: int, noise: torch.Tensor) -> torch.Tensor:
        """`x0` as it is at step `k` (q_sample)."""
        return _root(self.alphas_cumprod[k]) * x0 + self.noise_share(k) * noise

    def noise_share(self, k: int) -> float:
        """sqrt(1 - alpha_bar): the standard deviation of the noise at step `k`."""
        return _root(1 - self.alphas_cumprod[k])

    def start(self, x: torch.Tensor, eps: torch.Tensor, k: int) -> torch.Tensor:
        """x_0 as `x` at step `k` and the noise in it say."""
        alpha = self.alphas_cumprod[k]
        return _root(1 / alpha) * x - _root(1 / alpha - 1) * eps

    def posterior(self, x: torch.Tensor, x0: torch.Tensor, interpolation: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of the step before `k`; `interpolation` in [-1, 1] goes from the smallest variance to the largest
        (Nichol and Dhariwal, equation 15)."""
        beta, alpha, before = self.betas[k], self.alphas_cumprod[k], self.alphas_cumprod_prev[k]
        mean = float(beta * np.sqrt(before) / (1 - alpha)) * x0 + float((1 - before) * np.sqrt(1 - beta) / (1 - alpha)) * x
        small, large = (float(table[k]) for table in self.log_variances)
        share = (interpolation + 1) / 2
        return mean, share * large + (1 - share) * small

    def ddim(self, x: torch.Tensor, x0: torch.Tensor, k: int) -> torch.Tensor:
        """The deterministic step of DDIM (Song et al. 2021, equation 12 with eta 0)."""
        return _root(self.alphas_cumprod_prev[k]) * x0 + _root(1 - self.alphas_cumprod_prev[k]) * self.eps(x, x0, k)

    def eps(self, x: torch.Tensor, x0: torch.Tensor, k: int) -> torch.Tensor:
        """The noise in `x` if `x0` is its start."""
        alpha = self.alphas_cumprod[k]
        return (_root(1 / alpha) * x - x0) / _root(1 / alpha - 1)


def spread(steps: int) -> list[int]:
    """`steps` timesteps from 0 to 999 at even distances, rounded; the distances are added up, so that rounding falls as in the original."""
    stride = (TRAIN_STEPS - 1) / (steps - 1) if steps > 1 else 1.0
    place, places = 0.0, []
    for _ in range(steps):
        places.append(round(place))
        place += stride
    return places


def _root(value: float) -> float:
    return float(np.sqrt(value))
