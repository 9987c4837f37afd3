"""Landmarks of a training set, by picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foreign.json_files import read_json
from ntf_model.data.data import Item
from ntf_model.errors import InputError
from ntf_model.recipes.faces import template_landmarks

COUNTS = (68, 81)


class Landmarks:
    """From a JSON file {picture id: [[x, y], ...]} with 68 or 81 points each; pictures that it does not name, and all of them without a
    file, get the template of an aligned face."""

    def __init__(self, file: str | None = None):
        self.known: dict[str, np.ndarray] = _read(Path(file)) if file else {}

    def of(self, item: Item) -> np.ndarray:
        """`[68 or 81, 2]` (x, y) in pixels of the picture."""
        points = self.known.get(item.id)
        return template_landmarks(*item.image.shape[:2]) if points is None else points


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        known = {name: np.asarray(points, dtype=np.float64) for name, points in read_json(file).items()}
    except OSError as error:
        raise InputError(f"cannot read the landmarks {file}: {error.strerror}", "Check the path") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{file} holds no landmarks ({error})", "It must be a JSON object {picture id: [[x, y], ...]}") from None
    for name, points in known.items():
        if points.ndim != 2 or points.shape[1] != 2 or len(points) not in COUNTS:
            raise InputError(f"{file}: {name} has landmarks of the shape {list(points.shape)}", "Each picture needs 68 or 81 pairs (x, y)")
    return known
