"""A trained detector on files and folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foreign.folders import list_pictures, said
from foreign.progress import Progress, silent
from ntf_model.calibration import Verdict
from ntf_model.data.images import read_image
from ntf_model.data.loader import read_ahead
from ntf_model.data.reading.listing import is_plain_file
from ntf_model.detector import Detector
from ntf_model.errors import InputError


@dataclass(frozen=True)
class FileDetection:
    """A detector's result for a file: the fields of `ntf_model.detector.Detection` (`distance` and `calibrated` None for a detector that
    has none), and the threshold above which P(fake) is called fake. For a file that could not be read, `error` says why, and the others
    are None."""

    file: Path
    probability: float | None
    distance: float | None
    is_fake: bool | None
    threshold: float
    error: str = ""
    calibrated: float | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Detections:
    """A row for every file in the order in which they were given, and sentences about what was left out of folders."""

    rows: list[FileDetection]
    notes: list[str]

    @property
    def unreadable(self) -> list[FileDetection]:
        """The rows of the files that could not be read."""
        return [row for row in self.rows if row.error]


def detect(paths: Sequence[Path | str], detector: Detector, *, batch_size: int = 32, on_progress: Progress = silent) -> Detections:
    """Runs `detector` on files, and on all pictures under folders, in the order of `paths`; a path that is given twice comes twice.

    What cannot be read (a file that is no picture, a pipe, a path with nothing there, a folder without pictures) is a row with an error in
    its place, and does not stop the rest. Raises InputError if there are no paths.
    """
    if not paths:
        raise InputError("there is no picture to look at", "Give files, or folders that hold pictures")
    files, notes = find_files(paths)
    rows: list[FileDetection] = []
    for start, batch in _read_batches(files, batch_size):
        images = [image for _, image in batch if isinstance(image, np.ndarray)]
        answers = iter(detector(images) if images else [])
        for file, image in batch:
            if isinstance(image, InputError):
                rows.append(FileDetection(file, None, None, None, detector.threshold, str(image)))
                continue
            detection = next(answers)
            distance, calibrated = (None if np.isnan(value) else value for value in (detection.distance, detection.calibrated))
            decided = (detection.probability, distance, detection.is_fake, detector.threshold, "", calibrated, detection.verdict)
            rows.append(FileDetection(file, *decided))
        on_progress(start + len(batch), len(files), "looking at pictures")
    return Detections(rows, notes)


def find_files(paths: Sequence[Path | str]) -> tuple[list[Path], list[str]]:
    """The files named and the pictures under the folders named, in order, and what was left out of the folders. A folder without pictures
    stands for itself."""
    files: list[Path] = []
    notes: list[str] = []
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        listing = list_pictures(path)
        files += listing.files or [path]
        notes += [f"{path}: {said(listing.left_out)}"] if listing.left_out else []
    return files, list(dict.fromkeys(notes))


def _read_batches(files: list[Path], batch_size: int) -> Iterator[tuple[int, list[tuple[Path, np.ndarray | InputError]]]]:
    """Files with their pictures, or with the error that reading them gave."""
    with closing(read_ahead(_read, files)) as images:
        for start in range(0, len(files), batch_size):
            yield start, list(zip(files[start : start + batch_size], images, strict=False))


def _read(file: Path) -> np.ndarray | InputError:
    if file.is_dir():
        return InputError(f"there is no picture in {file}", "Give folders that hold pictures")
    if not file.exists():
        return InputError(f"there is no file or folder {file}", "Check the path")
    if not is_plain_file(file):  # a pipe would be waited for without end
        return InputError(f"{file} is a pipe or a device", "Give a file")
    try:
        return read_image(file)
    except InputError as error:
        return error
