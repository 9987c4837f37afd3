"""Detectors of which one at a time is in memory: ten at full size took 6 GiB together, and a comparison uses them one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from foreign.memory import release
from ntf_model.detector import Detector
from ntf_model.registry import load_detector


class InTurn(Mapping[str, Detector]):
    """The detectors in `folders`, by name, each loaded when it is asked for. It stays until another one is asked for.

    Whoever asks for one must not keep it beyond the next.
    """

    def __init__(self, folders: Mapping[str, Path], device: str | torch.device | None = None):
        self._folders = dict(folders)
        self._device = device
        self._name: str | None = None
        self._detector: Detector | None = None

    def __getitem__(self, name: str) -> Detector:
        if name != self._name or self._detector is None:
            folder = self._folders[name]
            self._name = self._detector = None  # before the next is loaded, so that never two are in memory
            release()
            self._detector, self._name = load_detector(folder, self._device), name
        return self._detector

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)
