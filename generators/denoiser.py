"""What DDPM, DDIM, PNDM and LDM share: a diffusers UNet that predicts noise, and a loop that takes the noise away."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from generators.base import Generator, Output, StepKind
from generators.diffusers_files import to_device
from generators.errors import InputError
from generators.images import fetch_uint8, luminance, require_size, to_float
from generators.latent_noise import NAME, with_noise
from generators.seeding import randn_rows, torch_rng
from generators.transfer import send

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # x and t to the noise in x


def original_timesteps(train_steps: int, steps: int) -> torch.Tensor:
    """Every (train_steps // steps)-th timestep, the last first, as the original repositories choose them. Where `steps` does not divide
    `train_steps` they are a few more than `steps`, which reach nearer to pure noise than those of diffusers."""
    return torch.arange(0, train_steps, train_steps // steps).flip(0)


class Denoiser(Generator):
    """A noise-predicting UNet and the configuration of its noise schedule. A method gives the scheduler and its settings."""

    family = "DM"
    kinds: tuple[StepKind, ...] = ("sample", "edit")
    networks: tuple[str, ...] = ("unet",)

    def __init__(self, unet: Any, schedule: Mapping[str, Any], device: str | torch.device, dtype: torch.dtype):
        self.unet = to_device(unet, device, dtype)
        # A diffusers scheduler configuration, of whatever class. `timestep_scale` is ours: the network is told the timestep times it.
        self.schedule = {key: value for key, value in schedule.items() if key != "timestep_scale"}
        self.timestep_scale = float(schedule.get("timestep_scale", 1))
        if self.height != self.width:  # what an edit works on is square
            self.kinds = tuple(kind for kind in self.kinds if kind != "edit")
        self.device = torch.device(device)
        self.dtype = dtype

    @property
    def height(self) -> int:
        """Of what the UNet denoises: pixels, or latents."""
        size = self.unet.config.sample_size
        return int(size if isinstance(size, int) else size[0])

    @property
    def width(self) -> int:
        size = self.unet.config.sample_size
        return int(size if isinstance(size, int) else size[1])

    @property
    def resolution(self) -> int:
        return min(self.height, self.width)

    @property
    def most_steps(self) -> int:
        """How many denoising steps the schedule allows: those that the network was trained with, less one where they are counted from 1."""
        return int(self.schedule.get("num_train_timesteps", 1000)) - bool(self.schedule.get("steps_offset", 0))

    @property
    def usual_steps(self) -> int:
        """Denoising steps where the manifest names none and the checkpoint was trained with enough."""
        return 50

    def step_count(self, settings: Any) -> int:
        """The denoising steps of a request. InputError if the checkpoint was trained with fewer."""
        if settings.steps is None:
            return min(self.usual_steps, self.most_steps)
        if settings.steps > self.most_steps:
            raise InputError(
                f"{self.name}: steps {settings.steps}, but this checkpoint's schedule allows at most {self.most_steps}",
                f"Set `steps` to {self.most_steps} or fewer",
            )
        return settings.steps

    @abstractmethod
    def scheduler(self, settings: Any) -> Any:
        """The diffusers scheduler of one request, its timesteps set."""

    def build_scheduler(self, cls: Any, chosen: Mapping[str, Any]) -> Any:
        """`cls` of diffusers with the checkpoint's schedule. What is None in `chosen` stays as the checkpoint has it."""
        return cls.from_config(self.schedule, **{key: value for key, value in chosen.items() if value is not None})

    def step_options(self, settings: Any, rngs: list[torch.Generator]) -> dict[str, Any]:
        """What this method's scheduler takes in `step` beside the prediction, the timestep and the sample."""
        return {"generator": rngs}

    def timesteps_from(self, scheduler: Any, count: int) -> torch.Tensor:
        """The timesteps of the last `count` steps, for an edit that begins there."""
        return scheduler.timesteps[len(scheduler.timesteps) - count :]

    def encode(self, images: torch.Tensor, rngs: list[torch.Generator]) -> torch.Tensor:
        """Images in [-1, 1], `[N, 3, H, W]`, to what the UNet denoises. For a one-channel network that is their luminance."""
        if self.unet.config.in_channels == 1:
            return luminance(images)
        return images

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """What the UNet denoised, to images in [-1, 1]."""
        return latents

    def draw(self, rngs: Sequence[torch.Generator]) -> torch.Tensor:
        """Standard normal float32 of the UNet's input shape, row i from `rngs[i]` alone."""
        shape = (self.unet.config.in_channels, self.height, self.width)
        return send(randn_rows(rngs, shape), self.device)

    def predict(self, x: torch.Tensor, t: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """The noise in `x` at timestep `t`. A class-conditional network is told the `classes` `[N]`."""
        return self.network_output(x, t, classes)[:, : x.shape[1]]

    def predictor(self, seeds: list[int], settings: Any) -> Predict:
        """`predict` for the images of these seeds."""
        return self.predict

    def network_output(self, x: torch.Tensor, t: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """The output of the UNet: the noise, and after it as many channels about its variance where the network has learnt that.

        It is float32, because the schedule's arithmetic is never done in half precision.
        """
        told = t if self.timestep_scale == 1 else t * self.timestep_scale
        conditions = {} if classes is None else {"class_labels": classes}
        return self.unet(x.to(self.dtype), told, **conditions).sample.float()

    def denoise(self, predict: Predict, x: torch.Tensor, scheduler: Any, timesteps: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        """`x` at `timesteps[0]`, denoised to the end. `options` go to every step of the scheduler."""
        told = send(timesteps, self.device)  # all in one copy: copying them one by one would make the host wait for each step
        for t, on_device in zip(timesteps, told, strict=True):  # the scheduler's tables are the host's
            x = scheduler.step(predict(x, on_device), t, x, **options).prev_sample
        return x

    def make(self, seeds: list[int], settings: Any, predict: Predict) -> Output:
        """Images from noise, with `predict` in the place of the bare network where there is a text to follow."""
        rngs = [torch_rng(seed) for seed in seeds]
        scheduler = self.scheduler(settings)
        x = self.draw(rngs) * scheduler.init_noise_sigma
        return fetch_uint8(self.decode(self.denoise(predict, x, scheduler, scheduler.timesteps, self.step_options(settings, rngs))))

    def rework(self, images: np.ndarray, seeds: list[int], settings: Any, predict: Predict) -> Output:
        """SDEdit (Meng et al. 2022, Algorithm 1): noise to `strength` of the schedule, then denoise. At 0 it only encodes and decodes,
        with noise on the latents where `latent_noise` asks for it."""
        require_size(images, self.resolution, self.name)
        rngs = [torch_rng(seed) for seed in seeds]
        start = self.encode(to_float(images, device=self.device), rngs)
        if settings.strength == 0:
            return fetch_uint8(self.decode(with_noise(start, getattr(settings, NAME, 0.0), seeds)))
        scheduler = self.scheduler(settings)
        timesteps = self.timesteps_from(scheduler, max(1, int(self.step_count(settings) * settings.strength)))
        x = scheduler.add_noise(start, self.draw(rngs), timesteps[:1].expand(len(seeds)))
        return fetch_uint8(self.decode(self.denoise(predict, x, scheduler, timesteps, self.step_options(settings, rngs))))

    def _sample(self, seeds: list[int], settings: Any) -> Output:
        return self.make(seeds, settings, self.predictor(seeds, settings))

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Any) -> Output:
        return self.rework(images, seeds, settings, self.predictor(seeds, settings))
