"""The samplers of DDPM, DDIM and PNDM with an analytic network, against the original repositories and diffusers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from generators.denoiser import Denoiser
from generators.methods.ddim import DDIM
from generators.methods.ddpm import DDPM
from generators.methods.pndm import PNDM
from tests.parity.cases import Case, _normal

# The name of a stored output says which sampler made it, in how many steps and with which settings.
OUTPUTS = {
    r"official_(?P<method>[SF]-PNDM|DDIM)_(?P<steps>\d+)": (PNDM, {"official": True}),
    r"ddim_repo_eta(?P<eta>[\d.]+)_(?P<steps>\d+)": (DDIM, {"official": True}),
    r"ddpm_repo_(?P<steps>\d+)": (DDPM, {"official": True}),
    r"diffusers_DDIM_(?P<steps>\d+)_alpha1(?P<set_alpha_to_one>True|False)": (DDIM, {"clip_sample": False}),
    r"diffusers_PNDM_(?P<steps>\d+)_skip(?P<skip_prk_steps>True|False)_alpha1(?P<set_alpha_to_one>True|False)": (PNDM, {}),
    r"diffusers_DDPM_(?P<variance_type>fixed_\w+?)_(?P<steps>\d+)": (DDPM, {"clip_sample": True}),
}


class Analytic(nn.Module):
    """eps(x, t) of the cases' description, in float32, in the place of a UNet."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.config = SimpleNamespace(in_channels=shape[1], out_channels=shape[1], sample_size=shape[2])

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> SimpleNamespace:
        t = t.to(torch.float32)
        u = (t + 1) / 1000
        return SimpleNamespace(sample=torch.sqrt(1 - torch.exp(-(0.1 * u + 9.95 * u * u))) * x + 0.1 * torch.tanh(x + torch.sin(t / 97)))


def check(case: Case) -> None:
    start = case.tensor("x_T")
    outputs = [name for name in case.arrays if name != "x_T"]
    for name in outputs:
        cls, fixed, named = _sampler(name)
        model: Denoiser = cls(Analytic(start.shape), {"clip_sample": True}, "cpu", torch.float32)
        settings = cls.parse_parameters({**fixed, **named})
        scheduler = model.scheduler(settings)
        with _numbered_noise(tuple(start.shape)), torch.inference_mode():
            options = model.step_options(settings, [torch.Generator()])
            case.compare(name, model.denoise(model.predict, start, scheduler, scheduler.timesteps, options))


def _sampler(name: str) -> tuple[type[Denoiser], dict[str, object], dict[str, str]]:
    for pattern, (cls, fixed) in OUTPUTS.items():
        if match := re.fullmatch(pattern, name):
            return cls, fixed, match.groupdict()
    raise AssertionError(f"no sampler here makes {name}")


@contextmanager
def _numbered_noise(shape: tuple[int, ...]) -> Iterator[None]:
    """Gives the schedulers the k-th stored noise at their k-th draw."""
    drawn = iter(range(1, 10_000))

    def draw(*_: object, **__: object) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(_normal(f"noise:{next(drawn)}", shape)))

    schedulers = "diffusers.schedulers.scheduling_"
    with patch(f"{schedulers}ddpm.randn_tensor", draw), patch(f"{schedulers}ddim.randn_tensor", draw):
        yield
