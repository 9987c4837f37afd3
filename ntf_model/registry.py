"""Detectors by name.

    detector = get_detector("wang2020").fit(splits, output=Path("runs/wang"))
    detector.score([image])                       # P(fake) of each picture
    load_detector(Path("runs/wang"))              # the same one again

A new detector is one file in `ntf_model/baselines/`, named as the detector is, with one class under `@register_detector`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

import torch

from ntf_model.detector import Detector
from ntf_model.errors import InputError
from ntf_model.runs import read_config

_registered: dict[str, type[Detector]] = {}
_elsewhere = {"ntf": "ntf_model.ntf.ntf", "ensemble": "ntf_model.ensemble"}


def register_detector(name: str) -> Callable[[type[Detector]], type[Detector]]:
    """Class decorator: makes the class known as `name`, which is also the name of its file."""

    def remember(cls: type[Detector]) -> type[Detector]:
        cls.name = name
        _registered[name] = cls
        return cls

    return remember


def detector_names() -> list[str]:
    """All detectors that learn from pictures, NTF first, then the baselines in alphabetical order, without importing them. The ensemble,
    which is made of trained ones, is not among them."""
    folder = str(Path(__file__).parent / "baselines")
    files = {module.name for module in pkgutil.iter_modules([folder]) if not module.name.startswith("_")}
    return ["ntf", *sorted((files | set(_registered)) - _elsewhere.keys())]


def get_detector(name: str) -> type[Detector]:
    """The class of a detector. Raises InputError with the known names if there is none."""
    if name not in _registered:
        if name not in detector_names() and name not in _elsewhere:
            raise InputError(f"there is no detector {name!r}", f"Known: {', '.join(detector_names())}")
        importlib.import_module(_elsewhere.get(name, f"ntf_model.baselines.{name}"))
    return _registered[name]


def load_detector(folder: Path | str, device: str | torch.device | None = None) -> Detector:
    """The detector that a training run left in `folder`, of whichever kind. Text such as "org/name" that is no folder is a repository on
    the Hugging Face Hub. Raises InputError if there is none."""
    from ntf_model import hub  # huggingface_hub takes its time to import

    if hub.is_hub_name(folder):
        return hub.fetch(str(folder), lambda downloaded: load_detector(downloaded, device))
    return get_detector(read_config(folder).get("detector", "")).from_pretrained(folder, device)
