"""Several trained detectors as one: the mean of their logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field

from ntf_model.data.data import DetectionSplits
from ntf_model.detector import Detector, DetectorConfig, TrainingRun
from ntf_model.errors import InputError
from ntf_model.files import write_json
from ntf_model.judging.evaluate import score_data
from ntf_model.judging.metrics import best_threshold
from ntf_model.registry import load_detector, register_detector
from ntf_model.runs import CONFIG_FILE, read_config, trained_subsets, write_run

MEMBERS = "members"
TINY = 1e-12  # keeps the logit of a probability finite


class EnsembleConfig(DetectorConfig):
    """`runs` are folders of trained detectors, at least one, of any kind."""

    runs: tuple[str, ...] = Field((), validate_default=False)


@register_detector("ensemble")
class Ensemble(Detector):
    """P(fake) is the sigmoid of the mean of the members' logits. Its folder holds the members, so it needs their own folders no more."""

    title = "Ensemble"
    Config = EnsembleConfig

    def __init__(self, config: EnsembleConfig, members: Sequence[Detector], threshold: float = 0.5):
        self.config, self.members, self.threshold = config, list(members), threshold

    @classmethod
    def train(cls, splits: DetectionSplits, config: EnsembleConfig, run: TrainingRun) -> Self:
        """Nothing learns: the runs are read, and the threshold is fixed on validation."""
        if not config.runs:
            raise InputError("an ensemble needs trained detectors", "Name them: --set 'runs=[runs/ntf, runs/probe]'")
        if len(set(map(_real_path, config.runs))) < len(config.runs):
            raise InputError("an ensemble has a run twice", "Name each run once")
        detector = cls(config, [load_detector(folder, run.device) for folder in config.runs])
        scores = score_data(detector, splits.validation, on_progress=run.on_progress).scores
        detector.threshold = best_threshold(splits.validation.labels, scores)
        if run.output:
            detector.save_pretrained(run.output)
            parts = [trained_subsets(Path(folder), splits.train) for folder in config.runs]
            subsets = None if None in parts else sorted({name for part in parts for name in part or []})
            write_run(run.output, splits, config, {"threshold": detector.threshold}, subsets)
        return detector

    @property
    def note(self) -> str:
        return f"the mean logit of {', '.join(member.title for member in self.members)}"

    def score(self, images: Sequence[np.ndarray]) -> np.ndarray:
        scores = np.clip(np.stack([member.score(images) for member in self.members]), TINY, 1 - TINY)
        return 1 / (1 + np.exp(-np.log(scores / (1 - scores)).mean(0)))

    def save_pretrained(self, folder: Path) -> None:
        for number, member in enumerate(self.members):
            member.save_pretrained(Path(folder) / MEMBERS / str(number))
        values: dict[str, Any] = {"config": self.config.model_dump(mode="json"), "threshold": self.threshold, "members": len(self.members)}
        write_json(Path(folder) / CONFIG_FILE, {"detector": self.name, **values})

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str | torch.device | None = None) -> Self:
        values = read_config(folder)
        count, threshold = values.get("members"), values.get("threshold")
        if values.get("detector") != cls.name or not isinstance(count, int) or count < 1 or not isinstance(threshold, float):
            raise InputError(
                f"{Path(folder) / CONFIG_FILE} does not describe an ensemble", "Make it again: `ntf train --detector ensemble`"
            )
        folders = [Path(folder) / MEMBERS / str(number) for number in range(count)]
        if any(read_config(member).get("detector") == cls.name for member in folders):
            raise InputError(f"{folder} is an ensemble of ensembles", "Make it again from single runs")
        return cls(cls.parse_config(values.get("config", {})), [load_detector(member, device) for member in folders], threshold)


def _real_path(folder: str) -> str:
    return str(Path(folder).resolve())
