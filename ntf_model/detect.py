"""A trained detector on files and folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ntf_model.data.images import read_image
from ntf_model.data.loader import read_ahead
from ntf_model.data.reading.listing import list_pictures
from ntf_model.detector import Detector, Progress, silent
from ntf_model.errors import InputError


@dataclass(frozen=True)
class FileDetection:
    """A detector's result for a file: P(fake), the distance to the natural trace in [0, 1] (None for a detector that has none), and
    whether the picture is called fake at `threshold`, which was fixed on the validation split."""

    file: Path
    probability: float
    distance: float | None
    is_fake: bool
    threshold: float


@dataclass(frozen=True)
class Detections:
    """Every picture that could be read, in order, and every file that could not, with the reason."""

    rows: list[FileDetection]
    unreadable: list[tuple[Path, str]]


def detect(paths: Sequence[Path | str], detector: Detector, *, batch_size: int = 32, on_progress: Progress = silent) -> Detections:
    """Runs `detector` on files, and on all pictures under folders. A file that cannot be read is listed and does not stop the rest.

    Raises InputError if a path does not exist or no picture is found at all.
    """
    files = find_files(paths)
    rows: list[FileDetection] = []
    unreadable: list[tuple[Path, str]] = []
    for start, batch in _read_batches(files, batch_size):
        images = [image for _, image in batch if isinstance(image, np.ndarray)]
        answers = iter(detector(images) if images else [])
        for file, image in batch:
            if isinstance(image, InputError):
                unreadable.append((file, str(image)))
                continue
            detection = next(answers)
            distance = None if np.isnan(detection.distance) else detection.distance
            rows.append(FileDetection(file, detection.probability, distance, detection.is_fake, detector.threshold))
        on_progress(start + len(batch), len(files), "looking at pictures")
    return Detections(rows, unreadable)


def find_files(paths: Sequence[Path | str]) -> list[Path]:
    """The files named and the pictures under the folders named, each once."""
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += list_pictures(path).files
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"there is no file or folder {path}", "Check the path")
    if not files:
        raise InputError(f"there is no picture in {', '.join(map(str, paths))}", "Give files, or folders that hold PNG, JPEG or WebP files")
    return list(dict.fromkeys(files))


def _read_batches(files: list[Path], batch_size: int) -> Iterator[tuple[int, list[tuple[Path, np.ndarray | InputError]]]]:
    """Files with their pictures, or with the error that reading them gave."""

    def read(file: Path) -> np.ndarray | InputError:
        try:
            return read_image(file)
        except InputError as error:
            return error

    with closing(read_ahead(read, files)) as images:
        for start in range(0, len(files), batch_size):
            yield start, list(zip(files[start : start + batch_size], images, strict=False))
