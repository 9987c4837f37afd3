"""The report of a version: reading back what training, evaluating, comparing and explaining left in their folders, and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from foreign.json_files import read_json
from foreign.progress import Progress, silent
from generators.errors import InputError
from ntf_model.comparing.comparison_data import ComparisonData
from ntf_model.judging.deliveries import DeliveredResults
from ntf_model.judging.evaluate import Evaluation
from ntf_model.judging.robustness import Robustness
from ntf_model.ntf.ablation import Ablation
from ntf_model.runs import (
    ABLATION_FILE,
    COMPARISON_FILE,
    DELIVERIES_FILE,
    DISTANCE_FILE,
    EMBEDDINGS_FILE,
    EVALUATION_FILE,
    GRADCAM_FILE,
    ROBUSTNESS_FILE,
    RUN_FILE,
)
from pipelines.features import FeatureNetwork
from pipelines.report import Inputs, Run, write_report
from pipelines.store import Store


def write_page(
    store: Store,
    output: Path,
    version: int | str | None = None,
    runs: Sequence[Path] = (),
    history: Sequence[Mapping[str, Any]] = (),
    features: Path | None = None,
    comparison: Path | None = None,
    ablation: Path | None = None,
    on_progress: Progress = silent,
) -> Path:
    """Writes the page of a version to `output` and returns it.

    It shows all that lies in the folders `runs`, and the drifts of `history` (`flows.drift.read_history`). `features` is an .onnx file
    for FID and KID: see `pipelines.features.FeatureNetwork`. `comparison` and `ablation` are folders that
    `flows.judging.compare_detectors` and `ablate_ntf` wrote.
    """
    inputs = read_inputs(runs, history, comparison, ablation)
    return write_report(store, output, version, inputs, FeatureNetwork(features) if features else None, on_progress)


def read_inputs(
    runs: Sequence[Path], history: Sequence[Mapping[str, Any]] = (), comparison: Path | None = None, ablation: Path | None = None
) -> Inputs:
    """What lies in the folders of detectors' runs, of a comparison and of an ablation.

    InputError, naming the file, for a run that has not been evaluated, a folder without its comparison or ablation, or a damaged file; what
    else a run could have and has not is left out.
    """
    return Inputs(
        [_read_run(folder) for folder in runs],
        history,
        None if comparison is None else ComparisonData.load(comparison / COMPARISON_FILE).model_dump(),
        None if ablation is None else _model(Ablation, ablation / ABLATION_FILE, "ntf ablate"),
    )


def _read_run(folder: Path) -> Run:
    robustness, distance, deliveries = folder / ROBUSTNESS_FILE, folder / DISTANCE_FILE, folder / DELIVERIES_FILE
    return Run(
        folder,
        Evaluation.load(folder / EVALUATION_FILE).model_dump(),
        _data(folder / RUN_FILE),
        _model(Robustness, robustness, "ntf robustness") if robustness.is_file() else None,
        Evaluation.load(distance).model_dump() if distance.is_file() else None,
        _data(folder / EMBEDDINGS_FILE),
        _data(folder / GRADCAM_FILE),
        _model(DeliveredResults, deliveries, "ntf evaluate") if deliveries.is_file() else None,
    )


def _model(kind: type[BaseModel], file: Path, command: str) -> dict[str, Any]:
    try:
        return kind.model_validate(read_json(file)).model_dump()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise InputError(f"cannot read {file}: {reason}", f"Make it again with `{command}`") from None


def _data(file: Path) -> dict[str, Any] | None:
    """A JSON file, or None if there is none."""
    if not file.is_file():
        return None
    try:
        return read_json(file)
    except (OSError, ValueError):
        raise InputError(f"{file} is damaged", "Remove it, or make it again") from None
