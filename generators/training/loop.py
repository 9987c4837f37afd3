"""One training loop for every small generator: batches, saving, resuming, sample sheets.

Nothing random outlives a step: the crops of step `i` and torch's random stream in it come from the seed and `i` alone. So a run that was
stopped and taken up again gives, bit for bit on one machine, the weights of a run that was not.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import pickle
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from generators.checkpoints import write_safetensors
from generators.demo.pictures import Picture, crop
from generators.errors import CheckpointError, InputError
from generators.files import whole_file
from generators.images import to_float
from generators.seeding import derive_seed, numpy_rng


@dataclass(frozen=True)
class Batch:
    """`images`: float32 `[N, 3, size, size]` in [-1, 1]; `index`: int64 `[N]`, which picture each is a crop of."""

    images: torch.Tensor
    index: torch.Tensor


@dataclass(frozen=True)
class Progress:
    """What `on_progress` is given after every step. `losses` are those of this step; `seconds` those of all steps so far."""

    step: int
    steps: int
    seconds: float
    losses: Mapping[str, float]

    def __str__(self) -> str:
        return f"step {self.step:,} of {self.steps:,}, " + ", ".join(f"{name} {value:.3f}" for name, value in self.losses.items())


@dataclass
class Run:
    """A finished run: `losses` are means over the steps since the save before, one row for each save."""

    output: Path
    steps: int
    seconds: float
    losses: list[dict[str, float]] = field(default_factory=list)


class Trainer(ABC):
    """Networks that are being learned, their optimisers and moving averages."""

    name: str  # of the generator that the checkpoint is for
    batch_size: int

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything with `state_dict` and `load_state_dict` that a step changes, by name."""

    @abstractmethod
    def step(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        """Learns from `batch`. `progress` in [0, 1) is how much of the run is done. Returns losses."""

    @abstractmethod
    def sheet(self) -> np.ndarray:
        """Samples to look at: `uint8` `[N, size, size, 3]`, always of the same seeds."""

    def facts(self, pictures: Sequence[Picture]) -> dict[str, str]:
        """What the model card should say that was measured on the finished network, with `pictures` that it was not trained on."""
        return {}

    @abstractmethod
    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors and configuration, as the generator's `load` reads them from one safetensors file."""


def fit(
    trainer: Trainer,
    pictures: Sequence[Picture],
    output: Path,
    work: Path,
    *,
    steps: int,
    seed: int,
    size: int,
    save_every: int,
    on_progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Trains for `steps` steps, from where the state in `work` stands if there is one.

    Every `save_every` steps and at the end it writes the checkpoint `output` (safetensors, half precision), and in `work` the state
    (`state.pt`), `losses.csv` and `step-N.png`. Raises InputError if the state in `work` belongs to another run.
    """
    settings = {
        "name": trainer.name, "steps": steps, "seed": seed, "size": size, "batch_size": trainer.batch_size, "pictures": _digest(pictures)
    }  # fmt: skip
    work.mkdir(parents=True, exist_ok=True)
    done, seconds, losses = _resume(work / "state.pt", trainer, settings)
    recent: list[dict[str, float]] = []
    with torch.random.fork_rng(devices=[]):
        for step in range(done, steps):
            start = time.perf_counter()
            torch.manual_seed(derive_seed(seed, "step", step))
            now = trainer.step(_batch(pictures, trainer.batch_size, seed, step, size), step, step / steps)
            seconds += time.perf_counter() - start
            if not all(map(math.isfinite, now.values())):
                raise InputError(f"training {trainer.name} diverged at step {step}: {now}", "Train with another seed or on other pictures")
            recent.append(now)
            if on_progress is not None:
                on_progress(Progress(step + 1, steps, seconds, now))
            if (step + 1) % save_every == 0 or step + 1 == steps:
                losses.append({"step": step + 1, **_means(recent)})
                recent = []
                _save(trainer, output, work, {**settings, "step": step + 1, "seconds": seconds, "losses": losses})
    return Run(output, steps, seconds, losses)


def cosine(progress: float, warm_up: float = 0.03) -> float:
    """A learning rate's factor: up in a line during `warm_up`, then down a half cosine to 1 % of itself."""
    if progress < warm_up:
        return max(progress / warm_up, 0.02)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def late_cosine(progress: float) -> float:
    """A learning rate's factor for GANs: whole for the first half, since a GAN follows a moving target and a rate that falls from the start
    would stop it short; then down the half cosine."""
    return cosine(0.03 + 0.97 * max(0.0, 2 * progress - 1))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, step: int, decay: float = 0.999) -> None:
    """Moves `ema` towards `model`, faster in the first steps; buffers (running statistics) are copied."""
    weight = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_([*ema.parameters()], [*model.parameters()], weight)
    for kept, now in zip(ema.buffers(), model.buffers(), strict=True):
        kept.copy_(now)


def half(prefix: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """The module's tensors, their names after `prefix`, floats in half precision."""
    return {prefix + key: value.half() if value.is_floating_point() else value for key, value in module.state_dict().items()}


def tile(images: np.ndarray, columns: int = 8, scale: int = 3) -> Image.Image:
    """A sheet of `uint8` `[N, H, W, 3]` in rows of `columns`, each pixel `scale` pixels wide."""
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width, 3), np.uint8)
    sheet[:count] = images
    whole = sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    return Image.fromarray(whole).resize((columns * width * scale, rows * height * scale), Image.Resampling.NEAREST)


def _batch(pictures: Sequence[Picture], count: int, seed: int, step: int, size: int) -> Batch:
    rng = numpy_rng(derive_seed(seed, "batch", step))
    index = np.concatenate([rng.permutation(len(pictures)) for _ in range(-(-count // len(pictures)))])[:count]
    images = np.stack([crop(pictures[which], rng, size) for which in index])
    return Batch(to_float(images), torch.from_numpy(index))


def _resume(path: Path, trainer: Trainer, settings: Mapping[str, Any]) -> tuple[int, float, list[dict[str, float]]]:
    if not path.is_file():
        return 0, 0.0, []
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        record = json.loads(kept["record"])
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError) as error:
        raise CheckpointError(f"{path} is not the state of a training run ({error})", "Remove it to begin again") from None
    for key, value in settings.items():
        if record[key] != value:
            raise InputError(
                f"{path} is of a run with {key} {record[key]}, not {value}", "Give the same, or remove the folder to begin again"
            )
    for name, part in trainer.state().items():
        part.load_state_dict(kept["parts"][name])
    return record["step"], record["seconds"], record["losses"]


def _save(trainer: Trainer, output: Path, work: Path, record: Mapping[str, Any]) -> None:
    write_safetensors(output, *trainer.checkpoint())
    tile(trainer.sheet()).save(work / f"step-{record['step']:06d}.png")
    with (work / "losses.csv").open("w", newline="") as file:
        names = list(dict.fromkeys(name for row in record["losses"] for name in row))
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(record["losses"])
    with whole_file(work / "state.pt") as partial:  # last: where there is a state, all that belongs to it was written before
        torch.save({"record": json.dumps(record), "parts": {name: part.state_dict() for name, part in trainer.state().items()}}, partial)


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


def _digest(pictures: Sequence[Picture]) -> str:
    return hashlib.sha256(b"".join(picture.image.tobytes() for picture in pictures)).hexdigest()
