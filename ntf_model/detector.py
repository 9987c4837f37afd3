"""The interface of every detector. Training returns a detector that is ready for use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from ntf_model.data.data import DetectionSplits
from ntf_model.data.pictures import as_pictures
from ntf_model.errors import InputError
from ntf_model.training.resume import begin_training

TAKE_PICTURES = ("score", "distance", "embed", "__call__")  # methods of detectors whose only argument is pictures
Progress = Callable[[int, int, str], None]  # (done, total, what is being done)


def silent(done: int, total: int, message: str) -> None:
    """The progress callback that shows nothing."""


@dataclass(frozen=True)
class TrainingRun:
    """Where and how a training runs. Nothing in it decides which detector comes out."""

    output: Path | None = None  # the folder that gets the trained detector and the run's record
    resume: bool = False  # go on from the checkpoint that a stopped run left in `output`, if there is one
    device: str | torch.device | None = None  # None: the accelerator if there is one
    on_progress: Progress = silent


class Detection(NamedTuple):
    """A detector's result for a picture: P(fake); the distance to the natural trace in [0, 1], nan for a detector that has none;
    whether the probability is above the detector's threshold."""

    probability: float
    distance: float
    is_fake: bool


class DetectorConfig(BaseModel):
    """What decides a trained detector beside its data. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0


class Detector(ABC):
    """A detector with its weights. Made by `fit`, `from_pretrained` or `from_released`, never by a user's calling the class."""

    name: ClassVar[str]  # set by @register_detector
    title: ClassVar[str]  # as the paper's tables write it
    Config: ClassVar[type[DetectorConfig]] = DetectorConfig

    threshold: float = 0.5  # above it a picture is called fake; `fit` may fix another on the validation split

    @property
    def note(self) -> str:
        """What a reader of a table must know of this copy, such as that its backbone is random; often nothing."""
        return ""

    @classmethod
    def fit(
        cls,
        splits: DetectionSplits,
        config: Any = None,
        output: Path | None = None,
        *,
        resume: bool = False,
        device: str | torch.device | None = None,
        on_progress: Progress = silent,
    ) -> Self:
        """Trains on `splits.train`, chooses the epoch on `splits.validation`, and leaves `splits.test` alone.

        `config` is an instance of `cls.Config` (its defaults if None). With `output`, the folder gets what `save_pretrained` writes and
        the run's record (`ntf_model.runs`); `resume` goes on from the checkpoint that a stopped run left there, if there is one, and only
        loads what has ended. `device` is the accelerator if there is one, unless named. Raises InputError if `resume` meets a training on
        other data or settings.
        """
        config = config or cls.Config()
        if output and begin_training(output, cls.name, splits, config, resume):
            return cls.from_pretrained(output, device)
        return cls.train(splits, config, TrainingRun(output, resume, device, on_progress))

    @classmethod
    @abstractmethod
    def train(cls, splits: DetectionSplits, config: Any, run: TrainingRun) -> Self:
        """What `fit` does, written by each detector: the trained detector, saved in `run.output` if there is one."""

    @abstractmethod
    def score(self, images: Sequence[Any]) -> np.ndarray:
        """P(fake) of each picture, in [0, 1]: float64 `[N]`.

        Callers give a list of what `ntf_model.data.pictures.as_picture` takes: `uint8` or `uint16` arrays, grey, RGB or RGBA, floats in
        [0, 1], PIL pictures, bytes and paths, each of its own size; InputError for anything else, such as floats outside [0, 1]. What a
        detector writes under this name is handed `uint8` RGB `[H, W, 3]` whatever came (`__init_subclass__`).

        Batched inside; the score of a picture does not depend on the others.
        """

    def __call__(self, images: Sequence[Any]) -> list[Detection]:
        """A `Detection` for each picture, as `score` takes them."""
        return [Detection(score, float("nan"), score > self.threshold) for score in self.score(images).tolist()]

    def __init_subclass__(cls, **options: Any) -> None:
        """Every method of a detector that takes pictures takes them in every form, whoever wrote it."""
        super().__init_subclass__(**options)
        for name in TAKE_PICTURES:
            if name in cls.__dict__:
                setattr(cls, name, _with_pictures(cls.__dict__[name]))

    @abstractmethod
    def save_pretrained(self, folder: Path) -> None:
        """Writes `config.json` (with the key "detector": its name) and `model.safetensors`."""

    @classmethod
    @abstractmethod
    def from_pretrained(cls, folder: Path | str, device: str | torch.device | None = None) -> Self:
        """Reads what `save_pretrained` wrote. Raises InputError, naming the file, if it is missing, damaged or of another detector."""

    @classmethod
    def from_released(cls, path: Path | str, device: str | torch.device | None = None) -> Self:
        """Reads the weights that the method's authors released, under their official keys."""
        raise InputError(f"{cls.name} has no released weights that can be read from {path}", f"Train it: `ntf train --detector {cls.name}`")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Any:
        """The `Config` that `name` stands for ("demo", "paper"), with `changes`. Raises InputError for a name that is not known."""
        raise InputError(f"{cls.name} has no preset {name!r}", "Give single settings instead")

    @classmethod
    def parse_config(cls, values: dict[str, Any]) -> Any:
        """`values` as this detector's `Config`, defaults filled in; InputError names the first thing that is wrong."""
        return parse_settings(cls.Config, values, cls.name)


Settings = TypeVar("Settings", bound=BaseModel)


def _with_pictures(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method` of a detector, given `uint8` RGB whatever its caller had."""

    @wraps(method)
    def converted(self: Detector, images: Any) -> Any:
        return method(self, as_pictures(images))

    return converted


def parse_settings(model: type[Settings], values: dict[str, Any], owner: str) -> Settings:
    """`values` as `model`; InputError names `owner`, the first key that is wrong and what is known."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the configuration"
        raise InputError(f"{owner}: {key}: {first['msg']}", f"Its settings are: {', '.join(model.model_fields)}") from None


def best_device(device: str | torch.device | None = None) -> torch.device:
    """`device`, or the accelerator if there is one, or the CPU."""
    if device is not None:
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
