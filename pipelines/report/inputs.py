"""What a page shows of detectors, beside the version itself: plain data that others measured, as far as it is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One trained detector: its folder, and what lies there as plain data; None where it has not been measured.

    `evaluation` has `title`, `threshold`, `worst`, `subsets` (rows with `name`, `n_real`, `n_fake` and `measures`, each `value`, `low`,
    `high`), `overall` (rows by "unweighted" and "weighted") and `scores` (columns `id`, `label`, `subset`, `score`). `distance` is an
    evaluation too. `record` is the run's configuration and environment. `robustness` has `points` (`operation`, `strength`, `overall`).
    `deliveries` has `detectors`, each with `title`, `threshold` and `results` (`delivery`, `overall`), the clean ones first.
    `embeddings` has the columns `points`, `subsets`, `labels`, `ids`. `gradcam` has `side` and `rows` (`name`, `label`, `pictures` and
    `strip`, a PNG below the folder).
    """

    folder: Path
    evaluation: Data
    record: Data | None = None
    robustness: Data | None = None
    distance: Data | None = None
    embeddings: Data | None = None
    gradcam: Data | None = None
    deliveries: Data | None = None


@dataclass(frozen=True)
class Inputs:
    """All that was measured about a dataset's detectors.

    `history` are the drifts between versions, oldest first, each with `from_version`, `to_version`, `created`, `time_to_detect`, `gate`,
    `fallen` and `subsets`. `comparison` has `detectors`, `columns`, `measures`, `lower_is_better`, `cells` and `paired`; `ablation` has
    `results`.
    """

    runs: Sequence[Run] = ()
    history: Sequence[Data] = ()
    comparison: Data | None = None
    ablation: Data | None = None
