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

from foreign.progress import Progress, silent
from ntf_model.calibration import CALIBRATION_FILE, ERROR, Calibration, Verdict, fit_calibration
from ntf_model.data.data import DetectionData, DetectionSplits
from ntf_model.data.loader import batches_of
from ntf_model.data.pictures import as_pictures
from ntf_model.errors import InputError
from ntf_model.training.resume import begin_training, is_first_process

TAKE_PICTURES = ("score", "score_and_distance", "distance", "embed", "__call__")  # methods of detectors whose only argument is pictures


@dataclass(frozen=True)
class TrainingRun:
    """Where and how a training runs. Nothing in it decides which detector comes out."""

    output: Path | None = None  # the folder that gets the trained detector and the run's record
    resume: bool = False  # go on from the checkpoint that a stopped run left in `output`, if there is one
    device: str | torch.device | None = None  # None: the accelerator if there is one
    on_progress: Progress = silent


class Detection(NamedTuple):
    """A detector's result for a picture.

    `probability` is P(fake) as `score` gives it, which thresholds and evaluations are about; `distance` that to the natural trace in
    [0, 1], nan for a detector that has none; `is_fake` whether the probability is above the detector's threshold; `calibrated` P(fake) at
    the temperature that validation gave, nan without a calibration. `verdict` is "unsure" where the stated error of the detector's band
    allows neither class; without a calibration it follows from `is_fake`.
    """

    probability: float
    distance: float
    is_fake: bool
    calibrated: float
    verdict: Verdict


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
    calibration: Calibration | None = (
        None  # what validation says of the scores; `fit` makes it, and it is saved and loaded with the detector
    )
    error: float = ERROR  # of the band in which `verdict` is "unsure", by class
    fpr: float | None = None  # of the band, for reals; None: `error`. `at_fpr` sets it

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
            detector = cls.from_pretrained(output, device)
        else:
            detector = cls.train(splits, config, TrainingRun(output, resume, device, on_progress))
            detector.calibration = None
        if detector.calibration is None:
            detector.calibration = detector.calibrate(splits.validation, on_progress)
            if output and detector.calibration and is_first_process():
                detector.calibration.save(output)
        return detector

    def calibrate(self, validation: DetectionData, on_progress: Progress = silent) -> Calibration | None:
        """The calibration of this detector on a validation split; None if a class is missing there."""
        scores: list[float] = []
        for items in batches_of(validation, 64):
            scores += np.asarray(self.score([item.image for item in items]), np.float64).tolist()
            on_progress(len(scores), len(validation), "calibrating")
        return fit_calibration(validation.labels, np.array(scores), validation.digest)

    def at_fpr(self, fpr: float) -> Self:
        """This detector with the threshold at which about the share `fpr` of reals is called fake, and the same share in its band.

        Raises InputError if it has no calibration, or its validation split had too few reals for that share.
        """
        if self.calibration is None:
            raise InputError(f"this {self.title} has no calibration, so no threshold for an FPR is known", "Train it again")
        self.threshold, self.fpr = self.calibration.threshold_at(fpr), fpr
        return self

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

    def with_error(self, error: float) -> Self:
        """This detector with another stated error of its band. Raises InputError if it has no calibration, or the error is none."""
        if self.calibration is None:
            raise InputError(f"this {self.title} has no calibration, so it has no band with a stated error", "Train it again")
        self.calibration.band(error, self.fpr)
        self.error = error
        return self

    @property
    def verdicts_said(self) -> str:
        """What verdicts rest on, as a sentence for the user."""
        if self.calibration is None:
            return f"no calibration was saved with this {self.title}: fake is a P(fake) above {self.threshold:.3f}, and nothing is unsure"
        band = self.calibration.band(self.error, self.fpr)
        reals = f"at most {100 * self.error:g}" if self.fpr is None else f"about {100 * self.fpr:.3g}"
        return (
            f"unsure is a P(fake) from {band.low:.3f} to {band.high:.3f}: {reals} % of reals are called fake, and at "
            f"most {100 * self.error:g} % of fakes real, if they are like the {len(self.calibration.real)} and "
            f"{len(self.calibration.fake)} of validation"
        )

    def score_and_distance(self, images: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """`score`, and the distance of each picture to the natural trace: float64 `[N]` each, nan where there is no trace."""
        scores = self.score(images)
        return scores, np.full(len(scores), np.nan)

    def __call__(self, images: Sequence[Any]) -> list[Detection]:
        """A `Detection` for each picture, as `score` takes them."""
        scores, distances = self.score_and_distance(images)
        calibrated = np.full(len(scores), np.nan) if self.calibration is None else self.calibration.probability(scores)
        band = None if self.calibration is None else self.calibration.band(self.error, self.fpr)
        detections = []
        for score, distance, probability in zip(scores.tolist(), distances.tolist(), calibrated.tolist(), strict=True):
            is_fake = score > self.threshold
            verdict = band.verdict(score) if band else "fake" if is_fake else "real"
            detections.append(Detection(score, distance, is_fake, probability, verdict))
        return detections

    def __init_subclass__(cls, **options: Any) -> None:
        """Every method of a detector that takes pictures takes them in every form, and its calibration is saved and loaded with it, whoever
        wrote it."""
        super().__init_subclass__(**options)
        for name in TAKE_PICTURES:
            if name in cls.__dict__:
                setattr(cls, name, _with_pictures(cls.__dict__[name]))
        if callable(cls.__dict__.get("save_pretrained")):
            cls.save_pretrained = _saved_with_calibration(cls.__dict__["save_pretrained"])  # type: ignore[method-assign]
        if isinstance(cls.__dict__.get("from_pretrained"), classmethod):
            cls.from_pretrained = _loaded_with_calibration(cls.__dict__["from_pretrained"])  # type: ignore[method-assign]

    @abstractmethod
    def save_pretrained(self, folder: Path) -> None:
        """Writes `config.json` (with the key "detector": its name) and `model.safetensors`, and where there is a calibration
        `calibration.json` (`__init_subclass__` adds that)."""

    @classmethod
    @abstractmethod
    def from_pretrained(cls, folder: Path | str, device: str | torch.device | None = None) -> Self:
        """Reads what `save_pretrained` wrote, from a folder, or from the Hub where `folder` is text such as "org/name" and no folder here
        (`__init_subclass__` adds that, with the keywords `revision`, `token`, `cache_dir`, `force_download` and `local_files_only`).

        Raises InputError, naming the file, if it is missing, damaged or of another detector.
        """

    def push_to_hub(self, repo_id: str, *, licence: str | None = None, results: str = "", **options: Any) -> str:
        """Writes this detector into the repository `repo_id` of the Hugging Face Hub, as safetensors and JSON with a model card.

        Returns the commit's address. `licence` is the Hub's name of a licence, `results` Markdown for the card, such as a table that
        `ntf evaluate` wrote; `options` are those of `huggingface_hub.ModelHubMixin.push_to_hub` (`private`, `token`, `commit_message`,
        `branch`). Raises InputError if the Hub refuses.
        """
        from ntf_model import hub

        return hub.push(self, repo_id, licence=licence, results=results, **options)

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


def _saved_with_calibration(method: Callable[..., None]) -> Callable[..., None]:
    """`save_pretrained` of a detector, which also saves its calibration, and leaves none of an earlier detector behind."""

    @wraps(method)
    def saved(self: Detector, folder: Path) -> None:
        method(self, folder)
        if self.calibration:
            self.calibration.save(Path(folder))
        else:
            (Path(folder) / CALIBRATION_FILE).unlink(missing_ok=True)

    return saved


def _loaded_with_calibration(method: Any) -> Any:
    """`from_pretrained` of a detector, which also loads its calibration, and takes the name of a repository on the Hub."""

    @wraps(method.__func__)
    def loaded(cls: type[Detector], folder: Path | str, device: str | torch.device | None = None, **options: Any) -> Detector:
        from ntf_model import hub  # huggingface_hub takes its time to import

        if hub.is_hub_name(folder):
            return hub.fetch(str(folder), lambda downloaded: loaded(cls, downloaded, device), **options)
        detector = method.__func__(cls, folder, device)
        detector.calibration = Calibration.load(folder)
        return detector

    return classmethod(loaded)


def parse_settings(model: type[Settings], values: dict[str, Any], owner: str) -> Settings:
    """`values` as `model`; InputError names `owner`, the first key that is wrong and what is known."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the configuration"
        of_ours = first["type"] == "value_error"  # it says itself what would be right
        fix = "" if of_ours else f"Its settings are: {', '.join(model.model_fields)}"
        raise InputError(f"{owner}: {key}: {first['msg'].removeprefix('Value error, ')}", fix) from None


def best_device(device: str | torch.device | None = None) -> torch.device:
    """`device`, or the accelerator if there is one, or the CPU."""
    if device is not None:
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
