"""The folder of a training run: the names of its files, its weights, and a record that says what it was and how to make it again."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open

from foreign.json_files import read_json
from ntf_model.data.data import DetectionData, DetectionSplits
from ntf_model.data.reading.labels import CLASSES
from ntf_model.errors import InputError
from ntf_model.files import write_json, write_tensors
from ntf_model.own_code import require_allowed

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
RUN_FILE, METRICS_FILE, COST_FILE = "run.json", "metrics.json", "cost.json"
CHECKPOINT_FOLDER, STAGE1_FOLDER, TENSORBOARD_FOLDER = "checkpoint", "stage1", "tensorboard"
STATE_FILE = "state.json"  # in a folder of checkpoints

# What evaluating and explaining leave there
EVALUATION_FILE, ROBUSTNESS_FILE, DISTANCE_FILE = "evaluation.json", "robustness.json", "distance.json"
ABLATION_FILE, COMPARISON_FILE, DELIVERIES_FILE = "ablation.json", "comparison.json", "deliveries.json"
GRADCAM_FILE, GRADCAM_SHEET, GRADCAM_FOLDER = "gradcam.json", "gradcam.png", "gradcam"
EMBEDDINGS_FILE, EMBEDDINGS_FIGURE, ROBUSTNESS_FIGURE = "embeddings.json", "embeddings.png", "robustness.png"

# Tables, in every form: these names with the suffixes of `ntf_model.judging.tables.SUFFIXES`
RESULTS, ROBUSTNESS, DISTANCE, ABLATION, COMPARISON = "results", "robustness", "distance", "ablation", "comparison"
DELIVERIES = "deliveries"

SCORES_FILE = "scores.parquet"  # the score matrix (`ntf_model.comparing.matrix`)
RELIABILITY = "reliability"  # table of calibration, thresholds and the band
GENERATORS = "generators"  # table of a leaderboard
UNNAMED = CLASSES  # what the fakes of a folder are called where no folder names them

PACKAGES = ("torch", "transformers", "accelerate", "numpy", "scikit-learn", "pillow", "opencv-python", "safetensors")


NOT_GIVEN: Any = object()


def write_run(
    output: Path, splits: DetectionSplits, config: BaseModel, metrics: dict[str, Any], subsets: Sequence[str] | None = NOT_GIVEN
) -> None:
    """`run.json`: where the data are from (a folder, or a dataset's name, version and digest in the store), digests of the splits, sizes,
    the subsets of fakes that were trained on (`subsets`, None where nobody knows; if not given, those of the training split),
    configuration, seed, versions of packages, machine; `metrics.json`: what training measured."""
    record = {
        "dataset": {
            **splits.train.origin,
            "digest": splits.digest,
            "subsets": splits.train.fake_subsets if subsets is NOT_GIVEN else subsets,
            **{
                split: {"digest": data.digest, "images": len(data), "fakes": int(data.labels.sum())}
                for split, data in zip(DetectionSplits._fields, splits, strict=True)
            },
            **({"fakes_beside_their_real": int((splits.train.original_rows() >= 0).sum())} if getattr(config, "pairs", False) else {}),
        },
        "config": config.model_dump(mode="json"),
        "seed": getattr(config, "seed", None),
        "environment": environment(),
    }
    write_json(output / RUN_FILE, record)
    write_json(output / METRICS_FILE, metrics)


def rehearsal_of(folder: Path) -> str:
    """How the detector in `folder` was only tried out; empty if it was not, or if nothing is recorded."""
    try:
        return str(read_json(folder / RUN_FILE)["dataset"].get("rehearsal", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def trained_subsets(folder: Path, data: DetectionData) -> list[str] | None:
    """The subsets of fakes of `data` that the detector in `folder` was trained on; None if that is not recorded.

    A subset is known by its name, whichever dataset it was in. Only where a folder gave no name ("fake"), it is another one in another
    dataset.
    """
    try:
        dataset = read_json(folder / RUN_FILE)["dataset"]
        names = {str(name) for name in dataset["subsets"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = any(dataset.get(key) is not None and dataset.get(key) == data.origin.get(key) for key in ("name", "folder"))
    return [name for name in data.fake_subsets if name in names and (same or name not in UNNAMED)]


def environment() -> dict[str, Any]:
    """Python, packages and the device, as far as they decide numbers."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def save_weights(folder: Path, detector: str, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """`config.json` (with the key "detector") and `model.safetensors`, as `Detector.save_pretrained` must write them."""
    write_tensors(folder / WEIGHTS_FILE, tensors)
    write_json(folder / CONFIG_FILE, {"detector": detector, **config})


def load_weights(folder: Path | str, detector: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The configuration (without the key "detector") and tensors that `save_weights` wrote.

    Raises InputError, naming the file and the fix, if they are missing, damaged or of another detector.
    """
    config = read_config(folder)
    saved = config.pop("detector", None)
    if saved != detector:
        raise InputError(f"{folder} holds the detector {saved!r}, not {detector!r}", "Load it by its own name, or with `load_detector`")
    require_allowed(config, folder)
    file = Path(folder) / WEIGHTS_FILE
    try:
        return config, read_tensors(file)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is missing or damaged ({str(error).splitlines()[0]})", "Train again, or take it from a copy") from None


def read_config(folder: Path | str) -> dict[str, Any]:
    """The `config.json` of a saved detector. Raises InputError if the folder has none or it is no JSON object."""
    file = Path(folder) / CONFIG_FILE
    try:
        config = read_json(file)
    except OSError:
        raise InputError(
            f"{folder} holds no trained detector: {CONFIG_FILE} is missing", "Give the folder that `ntf train` wrote"
        ) from None
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error})", "Train again, or take the file from a copy") from None
    if not isinstance(config, dict):
        raise InputError(f"{file} is no JSON object", "Give the folder that `ntf train` wrote")
    return config


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, on the CPU. Raises SafetensorError or OSError if it is missing or damaged."""
    with safe_open(file, framework="pt") as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (not a dict)
