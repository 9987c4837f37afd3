"""The audit of a version of the store, or of a folder with real and fake pictures in it."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foreign.progress import Progress, counting, silent
from pipelines.audit.appearance import read_appearance
from pipelines.audit.classify import ERROR, LEAST_GROUPS, Design, auc_interval, design, matrix, out_of_fold
from pipelines.audit.container import dimensions_of, read_container
from pipelines.audit.families import APPEARANCE, CONTENT, DIMENSIONS, ENCODER, SIZE, TOGETHER, Family, joined
from pipelines.audit.formats.png import Png, deflate_setting, settle_filters, size_excess, writers_of
from pipelines.audit.pictures import (
    Picture,
    balanced,
    measured,
    of_equal_dimensions,
    pictures_of_folder,
    pictures_of_version,
    stored_images,
)
from pipelines.audit.remedies import REMEDIES
from pipelines.audit.traces import read_traces
from pipelines.audit.verdict import Audit, Gate, Verdict
from pipelines.images import decode, read_bytes
from pipelines.store import Store

SAMPLE = 32  # files that tell which encoder setting is the usual one
DEAD_ZONE = 0.1  # of a PNG's excess size, as a logarithm: less is noise of the same encoder in another release

Features = dict[str, list[Family]]


def audit_version(store: Store, version: int | str | None = None, delivery: str = "", on_progress: Progress = silent) -> Audit:
    """Audits a version: its fakes against the reals that they are compared with, as many of each from every real source.

    Where pictures have several dimensions, these are judged on all pictures, and everything else at equal dimensions
    (`pictures.of_equal_dimensions`). With `delivery`, the images that were delivered under that name, and not the clean ones; InputError if
    there are none.

    At most `pictures.ROWS` of each class are decoded. Nothing is written: see `write_audit`.
    """
    start = time.perf_counter()
    dataset = store.dataset(version)
    stored = pictures_of_version(dataset, delivery)
    pictures, whole = _chosen(stored)
    audit = _audit(dataset.version, pictures, stored_images(dataset, pictures), start, whole, on_progress)
    return replace(audit, delivery=delivery)


def audit_folder(path: Path, on_progress: Progress = silent) -> Audit:
    """Audits the pictures in `real/` and `fake/` (or `0_real/` and `1_fake/`), at any depth under `path`.

    Pictures of several dimensions are treated as those of a version are (`audit_version`). InputError if a class is missing or a picture
    that it looks at cannot be read.
    """
    start = time.perf_counter()
    pictures, whole = _chosen(measured(pictures_of_folder(path)))
    return _audit(None, pictures, (read_bytes(picture.place) for picture in pictures), start, whole, on_progress)


def _chosen(known: Sequence[Picture]) -> tuple[list[Picture], list[Picture] | None]:
    """Which of the pictures, whose dimensions are known, are looked at; and on which others the dimensions are judged, if they differ."""
    pictures = balanced(known)
    if len({picture.dimensions for picture in known}) > 1:
        equal = of_equal_dimensions(known)
        if _design(equal) is not None:  # else the classes have no sizes in common, and that is what tells
            return equal, pictures
    return pictures, None


def _design(pictures: Sequence[Picture]) -> Design | None:
    labels = np.array([picture.label for picture in pictures])
    return design(labels, [picture.group for picture in pictures]) if pictures else None


def _audit(
    version: int | None,
    pictures: list[Picture],
    images: Iterator[bytes],
    start: float,
    whole: Sequence[Picture] | None = None,
    on_progress: Progress = silent,
) -> Audit:
    """The audit of `pictures`. Their dimensions are judged on `whole`, if it is given."""
    labels = np.array([picture.label for picture in pictures])
    setup = _design(pictures)
    groups = len({picture.group for picture in pictures})
    if setup is None:
        reason = f"too few images for a verdict: {LEAST_GROUPS} groups of reals and of fakes that share a real source are needed"
        return Audit(version, len(pictures), groups, (), (), Gate(False, reason, judged=False), time.perf_counter() - start)
    files, traces = _features(pictures, counting(images, len(pictures), "pictures", on_progress))
    on_progress(len(pictures), len(pictures), "comparing the classes")
    of_files = judge({**files, TOGETHER: joined(files)}, setup)
    of_pixels = tuple(_with_medians(verdict, traces[verdict.name], labels) for verdict in judge(traces, setup))
    sizes = None if whole is None else _Sizes.of(whole)
    if sizes is not None and (chosen := _design(sizes.pictures)) is not None:
        (sized,) = judge({DIMENSIONS: sizes.rows}, chosen, beside=len(files))
        of_files = tuple(sized if verdict.name == DIMENSIONS else verdict for verdict in of_files)
    gate = _with_pixels(_gate(of_files, files, labels, sizes), of_pixels)
    if sizes is not None:
        gate = replace(gate, reason=f"{gate.reason} (dimensions of {len(sizes.rows)} images; the rest of {len(pictures)} of equal ones)")
    return Audit(version, len(pictures), groups, of_files, of_pixels, gate, time.perf_counter() - start)


@dataclass(frozen=True)
class _Sizes:
    """The dimensions of pictures that are judged by themselves."""

    pictures: Sequence[Picture]
    rows: list[Family]

    @classmethod
    def of(cls, pictures: Sequence[Picture]) -> _Sizes:
        known = [picture for picture in pictures if picture.dimensions is not None]
        return cls(known, [dimensions_of(*picture.dimensions) for picture in known if picture.dimensions is not None])

    @property
    def labels(self) -> np.ndarray:
        return np.array([picture.label for picture in self.pictures])


def _features(pictures: list[Picture], images: Iterator[bytes]) -> tuple[Features, Features]:
    """The families of the files, and those of the pixels with the files' sizes, for all pictures.

    The scanlines of no more than `SAMPLE` files are held at once.
    """
    files: Features = defaultdict(list)
    traces: Features = defaultdict(list)
    sizes: list[Family] = []
    excess: list[float | None] = []
    setting: tuple[int, int] | None = None
    waiting: list[Png | None] = []
    writers: list[set[str]] = []
    for picture, data in zip(pictures, images, strict=True):
        container = read_container(data, picture.id, Path(picture.place).suffix if isinstance(picture.place, Path) else "")
        for name, family in container.families.items():
            files[name].append(family)
        pixels = decode(data, picture.id)
        for name, family in read_traces(pixels).items():
            traces[name].append(family)
        traces[APPEARANCE].append(read_appearance(pixels))
        sizes.append({"bytes": float(container.size), "bytes_per_pixel": container.size / container.pixels})
        writers.append(writers_of(container.png, pixels) if container.png else set())
        waiting.append(container.png)
        if setting is not None or len(waiting) == SAMPLE or len(sizes) == len(pictures):
            setting = setting or deflate_setting(png for png in waiting if png)
            excess += [size_excess(png, setting) if png else None for png in waiting]
            waiting = []
    files[SIZE] = _with_excess(files[SIZE], excess)
    files[ENCODER] = settle_filters(files[ENCODER], writers)
    return dict(files), {**traces, CONTENT: sizes}


def _with_excess(families: Sequence[Family], excess: Sequence[float | None]) -> list[Family]:
    """The size families with how far each PNG is from the usual excess size, in steps of `DEAD_ZONE`."""
    known = [value for value in excess if value is not None]
    usual = float(np.median(known)) if known else 0.0
    return [
        family if value is None else {**family, "excess": float(np.round((value - usual) / DEAD_ZONE)) * DEAD_ZONE}
        for family, value in zip(families, excess, strict=True)
    ]


def judge(families: Features, setup: Design, beside: int = 0) -> tuple[Verdict, ...]:
    """A verdict for each family. The more of them vary, the wider each interval, so that all of a clean dataset's hold together; `beside`
    is how many others are judged elsewhere."""
    features = {name: matrix(rows) for name, rows in families.items()}
    error = ERROR / max(1, beside + sum(values.shape[1] > 0 for values in features.values()))
    verdicts = []
    for name, values in features.items():
        auc, low, high = auc_interval(out_of_fold(values, setup), setup, error) if values.shape[1] else (0.5, 0.5, 0.5)
        passed = low <= 0.5
        verdicts.append(Verdict(name, round(auc, 4), round(low, 4), round(high, 4), passed, "" if passed else REMEDIES[name]))
    return tuple(verdicts)


def _gate(verdicts: tuple[Verdict, ...], files: Features, labels: np.ndarray, sizes: _Sizes | None = None) -> Gate:
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if not failed:
        return Gate(True, "the files do not tell fake from real")
    reasons = []
    for verdict in [verdict for verdict in failed if verdict.name != TOGETHER] or failed:
        if sizes is not None and verdict.name == DIMENSIONS:
            hint = _difference(sizes.rows, sizes.labels)
        else:
            hint = _difference(files[verdict.name], labels) if verdict.name in files else ""
        figures = f"AUC {verdict.auc:.2f} [{verdict.low:.2f}, {verdict.high:.2f}]"
        reasons.append(f"{verdict.name} ({figures}{'; ' if hint else ''}{hint}; remedy: {verdict.remedy})")
    return Gate(False, f"the files tell fake from real by {', and by '.join(reasons)}")


def _with_pixels(gate: Gate, of_pixels: Sequence[Verdict]) -> Gate:
    """The gate with what the pixels tell among its reasons. They do not decide it, but it must not read as if nothing told."""
    told = sorted((verdict for verdict in of_pixels if not verdict.passed), key=lambda verdict: -verdict.auc)
    if not told:
        return gate
    figures = ", ".join(f"{verdict.name} (AUC {verdict.auc:.2f})" for verdict in told)
    return replace(gate, reason=f"{gate.reason}{', but' if gate.passed else '; also'} the pixels do, by {figures}")


def _with_medians(verdict: Verdict, rows: Sequence[Family], labels: np.ndarray) -> Verdict:
    """The verdict on what the pictures look like, its remedy beginning with the property that differs most."""
    if verdict.passed or verdict.name != APPEARANCE:
        return verdict
    most, words = 0.0, ""
    for name in rows[0]:
        values = np.array([float(row[name] or 0) for row in rows])
        reals, fakes = values[labels == 0], values[labels == 1]
        wins = (fakes[:, None] > reals[None]).mean() + (fakes[:, None] == reals[None]).mean() / 2
        if abs(wins - 0.5) > most:
            most, words = abs(wins - 0.5), f"{name} is {np.median(reals):.3g} in the reals and {np.median(fakes):.3g} in the fakes"
    return replace(verdict, remedy=f"{words} (medians): {verdict.remedy}")


def _difference(rows: list[Family], labels: np.ndarray) -> str:
    """The feature of a family that differs most between the classes, with the commonest value of each."""
    most, words = 0.0, ""
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(name) for row in rows]
        reals, fakes = (Counter(value for value, label in zip(values, labels, strict=True) if label == side) for side in (0, 1))
        distance = sum(abs(reals[value] / reals.total() - fakes[value] / fakes.total()) for value in reals | fakes) / 2
        if distance > most:
            most, words = distance, f"{name}: real {_commonest(reals)}, fake {_commonest(fakes)}"
    return words


def _commonest(values: Counter[float | str | None]) -> str:
    ((value, _),) = values.most_common(1)
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)[:60]
