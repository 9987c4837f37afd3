"""What validation pictures say of a detector's scores: calibrated probabilities, thresholds by wish, and a band in which it is not sure.

Scores are P(fake) as the detector gives it, in [0, 1]. Everything here follows from the scores of the validation split alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy.optimize import minimize_scalar

from foreign.json_files import read_json
from ntf_model.errors import InputError, counted
from ntf_model.files import write_json

CALIBRATION_FILE = "calibration.json"  # in the folder of a run
TINY = 1e-12  # keeps the logit of a score finite
TEMPERATURES = (0.02, 50.0)
ERROR = 0.05  # of the band, where none is wished
TAIL = 0.1  # of the reals: those whose logits are taken to fall off exponentially
FEWEST, ENOUGH = 5, 10  # reals in that tail at least; reals above a threshold that are enough to find it by counting
Verdict = Literal["real", "fake", "unsure"]


class Band(NamedTuple):
    """Scores above `high` are called fake, those below `low` real, and those between (both ends included) neither."""

    low: float
    high: float

    def verdict(self, score: float) -> Verdict:
        """What a picture with this score is called."""
        if score > self.high:
            return "fake"
        return "real" if score < self.low else "unsure"


class Calibration(BaseModel):
    """The scores of validation reals and fakes, in ascending order, and the temperature that was fitted on them.

    `digest` is that of the validation split.
    """

    model_config = ConfigDict(frozen=True)

    temperature: float = Field(gt=0)
    real: tuple[float, ...] = Field(min_length=1)
    fake: tuple[float, ...] = Field(min_length=1)
    digest: str = ""

    @model_validator(mode="after")
    def _scores_are_sorted(self) -> Calibration:
        for name, scores in (("real", self.real), ("fake", self.fake)):
            values = np.array(scores)
            if not (np.all(values >= 0) and np.all(values <= 1) and np.all(np.diff(values) >= 0)):
                raise ValueError(f"the scores `{name}` are not in [0, 1] and in ascending order")
        return self

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """P(fake), calibrated: the sigmoid of the score's logit divided by the temperature (Guo et al. 2017, section 4.2); float64 `[N]`.

        It holds where reals and fakes are equally frequent. The order of scores and the side of 0.5 stay.
        """
        return _sigmoid(_logit(np.asarray(scores, np.float64)) / self.temperature)

    def threshold_at(self, fpr: float) -> float:
        """The threshold above which about the share `fpr` of real pictures lies, for pictures that are like those of validation.

        Where at least `ENOUGH` validation reals would lie above it, or `fpr` is at least `TAIL`, it is the order statistic k = ceil((n + 1)
        (1 - fpr)). Fewer would decide it alone: then the logits of the highest `TAIL` of the reals are taken to fall off exponentially
        (peaks over a threshold; Pickands 1975, with shape 0). Raises InputError for an `fpr` outside (0, 1), or too few validation reals.
        """
        if not 0 < fpr < 1:
            raise InputError(f"the FPR {fpr:g} is not between 0 and 1", "Give a share, such as 0.01 for 1 %")
        count, beyond = len(self.real), round(TAIL * len(self.real))
        if fpr >= TAIL or count * fpr >= ENOUGH:
            threshold = _upper(self.real, fpr)
            needed = math.ceil(1 / fpr - 1e-9) - 1
        else:
            threshold = _tail(_logit(np.array(self.real)), beyond, fpr) if beyond >= FEWEST else None
            needed = round(FEWEST / TAIL)
        if threshold is None:
            there = f"there {'is' if count == 1 else 'are'} {count}"
            raise InputError(
                f"an FPR of {fpr:g} needs {counted(needed, 'validation real')}, and {there}", "Take a larger one, or validate on more reals"
            )
        return threshold

    def band(self, error: float = ERROR, fpr: float | None = None) -> Band:
        """The band with a stated error, by class: of reals at most `error` (about `fpr`, if it is given) are called fake, and of fakes
        at most `error` are called real, averaged over validation sets (split conformal by class; Vovk 2012).

        A class with too few validation pictures for the error never loses a picture to the other: that end of the band is 0 or 1. Raises
        InputError for an error outside (0, 0.5].
        """
        if not 0 < error <= 0.5:
            raise InputError(f"the error {error:g} is not above 0 and at most 0.5", "Give a share, such as 0.05 for 5 %")
        above_reals = _upper(self.real, error) if fpr is None else self.threshold_at(fpr)
        below_fakes = _lower(self.fake, error)
        ends = 1.0 if above_reals is None else above_reals, 0.0 if below_fakes is None else below_fakes
        return Band(min(ends), max(ends))

    def save(self, folder: Path) -> None:
        """Writes `calibration.json` into the folder of a run."""
        write_json(folder / CALIBRATION_FILE, self.model_dump())

    @classmethod
    def load(cls, folder: Path | str) -> Calibration | None:
        """What `save` wrote; None if the folder has none. Raises InputError, naming the file, if it is something else."""
        file = Path(folder) / CALIBRATION_FILE
        try:
            return cls.model_validate(read_json(file))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{file} is damaged ({reason})", "Remove it, or take it from a copy") from None


def fit_calibration(labels: np.ndarray, scores: np.ndarray, digest: str = "") -> Calibration | None:
    """The calibration of a detector from its scores on validation; None if a class is missing there."""
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    reals, fakes = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    if not len(reals) or not len(fakes):
        return None
    return Calibration(temperature=fit_temperature(reals, fakes), real=reals.tolist(), fake=fakes.tolist(), digest=digest)


def fit_temperature(reals: np.ndarray, fakes: np.ndarray) -> float:
    """The temperature with the smallest mean cross-entropy, both classes counting alike.

    The targets are Platt's (1999): (n + 1) / (n + 2) instead of 1, so that classes without an overlap do not ask for a temperature of 0.
    """
    logits = _logit(np.concatenate([reals, fakes]))
    targets = np.repeat([1 / (len(reals) + 2), (len(fakes) + 1) / (len(fakes) + 2)], [len(reals), len(fakes)])
    weights = np.repeat([0.5 / len(reals), 0.5 / len(fakes)], [len(reals), len(fakes)])

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        return float(weights @ (np.logaddexp(0, scaled) - targets * scaled))

    low, high = map(math.log, TEMPERATURES)
    grid = np.linspace(low, high, 41)
    best = int(np.argmin([loss(place) for place in grid]))
    around = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    return float(math.exp(minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 1e-6}).x))


def _upper(scores: tuple[float, ...], error: float) -> float | None:
    """Of ascending scores the one that a further picture's exceeds with a probability of at most `error`; None if there are too few."""
    rank = math.ceil((len(scores) + 1) * (1 - error) - 1e-9)
    return scores[rank - 1] if rank <= len(scores) else None


def _lower(scores: tuple[float, ...], error: float) -> float | None:
    """Of ascending scores the one that a further picture's is below with a probability of at most `error`; None if there are too few."""
    rank = math.floor((len(scores) + 1) * error + 1e-9)
    return scores[rank - 1] if rank else None


def _tail(logits: np.ndarray, beyond: int, fpr: float) -> float:
    """The score above which `fpr` of the reals lie, if the excesses of the `beyond` highest logits (ascending) are exponential."""
    start = logits[-beyond - 1]
    excess = float(np.mean(logits[-beyond:] - start))
    return float(_sigmoid(np.array(start + excess * math.log(beyond / len(logits) / fpr))))


def _logit(scores: np.ndarray) -> np.ndarray:
    clipped = np.clip(scores, TINY, 1 - TINY)
    return np.log(clipped) - np.log1p(-clipped)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -logits))
