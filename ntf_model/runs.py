"""The record that a training run leaves beside its weights: enough to say what it was and to make it again."""

from __future__ import annotations

import json
import math
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ntf_model.data.data import DetectionSplits
from ntf_model.detector import CONFIG_FILE, WEIGHTS_FILE, read_config
from ntf_model.errors import InputError

RUN_FILE, METRICS_FILE = "run.json", "metrics.json"
PACKAGES = ("torch", "transformers", "accelerate", "numpy", "scikit-learn", "pillow", "opencv-python", "safetensors")


def write_run(output: Path, splits: DetectionSplits, config: BaseModel, metrics: dict[str, Any]) -> None:
    """`run.json`: dataset digests, sizes, configuration, seed, versions of packages, machine; `metrics.json`: what training measured."""
    record = {
        "dataset": {
            "digest": splits.digest,
            **{
                split: {"digest": data.digest, "images": len(data), "fakes": int(data.labels.sum())}
                for split, data in zip(DetectionSplits._fields, splits, strict=True)
            },
        },
        "config": config.model_dump(mode="json"),
        "seed": getattr(config, "seed", None),
        "environment": environment(),
    }
    write_json(output / RUN_FILE, record)
    write_json(output / METRICS_FILE, metrics)


def environment() -> dict[str, Any]:
    """Python, packages and the device, as far as they decide numbers."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def write_json(file: Path, value: Any) -> None:
    """Writes JSON so that the file appears whole or not at all. What is not finite becomes null, as JSON wants it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps(_plain(value), indent=1, allow_nan=False) + "\n")
    partial.replace(file)


def save_weights(folder: Path, detector: str, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """`config.json` (with the key "detector") and `model.safetensors`, as `Detector.save_pretrained` must write them."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / (WEIGHTS_FILE + ".partial")
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial, metadata={"format": "pt"})
    partial.replace(folder / WEIGHTS_FILE)
    write_json(folder / CONFIG_FILE, {"detector": detector, **config})


def load_weights(folder: Path | str, detector: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The configuration (without the key "detector") and tensors that `save_weights` wrote.

    Raises InputError, naming the file and the mend, if they are missing, damaged or of another detector.
    """
    config = read_config(folder)
    found = config.pop("detector", None)
    if found != detector:
        raise InputError(f"{folder} holds the detector {found!r}, not {detector!r}", "Load it by its own name, or with `load_detector`")
    file = Path(folder) / WEIGHTS_FILE
    try:
        with safe_open(file, framework="pt") as weights:
            return config, {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is missing or damaged ({str(error).splitlines()[0]})", "Train again, or take it from a copy") from None


def _plain(value: Any) -> Any:
    """`value` as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
