"""The audit of a version of the store, or of a folder with real and fake pictures in it."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from generators.errors import InputError
from pipelines.audit import container, traces
from pipelines.audit.classify import ERROR, LEAST_GROUPS, Design, auc_interval, design, matrix, out_of_fold
from pipelines.audit.container import Container, Family, read_container
from pipelines.audit.verdict import Audit, Gate, Verdict
from pipelines.images import MAX_BYTES, SUFFIXES, decode
from pipelines.reading import USABLE
from pipelines.store import Store
from pipelines.store.upgrade import read_rows

ROWS = 200  # of each class at most: what an audit costs is bounded
SAMPLE = 32  # files that tell which encoder setting is the usual one
BATCH = 32  # images read at once
DEAD_ZONE = 0.1  # of a PNG's excess size, as a logarithm: less is noise of the same encoder in another release
CLASS_FOLDERS = {"real": 0, "0_real": 0, "fake": 1, "1_fake": 1}
TOGETHER, CONTENT = "all of these together", "file size (content)"

_ENCODE = "write both with one encoder: `ntf import` brings any folder to PNG, and every build does so for reals and fakes alike"
REMEDIES = {
    container.DIMENSIONS: "bring both to one size: `ntf import` and a build with `size`",
    container.FORMAT: _ENCODE,
    container.QUANTISATION: f"{_ENCODE}; the pixels still tell it then, unless the fakes get the reals' past (`parity: {{jpeg: reals}}`)",
    container.CHROMA: f"{_ENCODE}; the pixels still tell it then, unless the fakes get the reals' past (`parity: {{jpeg: reals}}`)",
    container.METADATA: "write both without metadata: `ntf import` takes it off, and exports for training leave it off (no --provenance)",
    container.ENCODER: _ENCODE,
    container.SIZE: _ENCODE,
    TOGETHER: _ENCODE,
    traces.PHASE: "the 8x8 grid lies differently: crop both alike, or give the fakes the reals' JPEG history (`parity: {jpeg: reals}`)",
    traces.BLOCKINESS: (
        "one side was compressed harder: give the fakes the reals' JPEG history (`parity: {jpeg: reals}`), or both one more compression "
        "(`parity: {recompress: {quality: [60, 95]}}`)"
    ),
    traces.HISTORY: "one side was JPEG before, or was so twice: give the fakes the reals' JPEG history (`parity: {jpeg: reals}`)",
    traces.RESAMPLING: (
        "real and fake came from different sizes: bring the reals to the generators' size first, or, where the fakes are the larger ones, "
        "take them through the reals' sizes (`parity: {sizes: reals}`)"
    ),
    CONTENT: (
        "the pictures of one side are smoother, so they take fewer bytes: no shortcut of the files, but of the content; reconstructions of "
        "the same reals (`parity: {reconstruct: ...}`) make fakes with the reals' content"
    ),
}


@dataclass(frozen=True)
class _Picture:
    """One image to look at: a row of a version (`place` is its row id) or a file (`place` is its path)."""

    id: str
    label: int
    real: str
    group: str
    place: Any


def audit_version(store: Store, version: int | str | None = None) -> Audit:
    """Audits a version: its fakes against the reals that they are compared with, as many of each from every real source.

    At most `ROWS` of each class are decoded. Nothing is written: see `write_audit`.
    """
    start = time.perf_counter()
    dataset = store.dataset(version)
    columns = ["id", "label", "real", "group"]
    table = read_rows(dataset, columns, USABLE, row_ids=True)
    values = [table.column(name).to_pylist() for name in [*columns, "_rowid"]]
    pictures = _balanced([_Picture(*row) for row in zip(*values, strict=True)])
    images = _stored_images(dataset, pictures)
    return _audit(dataset.version, pictures, images, start)


def audit_folder(path: Path) -> Audit:
    """Audits the pictures in `real/` and `fake/` (or `0_real/` and `1_fake/`), at any depth under `path`.

    InputError if a class is missing or a picture that it looks at cannot be read.
    """
    start = time.perf_counter()
    pictures = _balanced(_found(path))
    return _audit(None, pictures, (_read(picture.place) for picture in pictures), start)


def _audit(version: int | None, pictures: list[_Picture], images: Iterator[bytes], start: float) -> Audit:
    labels = np.array([picture.label for picture in pictures])
    setup = design(labels, [picture.group for picture in pictures]) if pictures else None
    groups = len({picture.group for picture in pictures})
    if setup is None:
        reason = f"too few images to judge: {LEAST_GROUPS} groups of reals and of fakes that share a real source are needed"
        return Audit(version, len(pictures), groups, (), (), Gate(True, reason), time.perf_counter() - start)
    files, marks, sizes = _features(pictures, images)
    found = _verdicts({**files, TOGETHER: container.joined(files)}, setup)
    seen = _verdicts({**marks, CONTENT: sizes}, setup)
    gate = _gate(found, files, labels)
    return Audit(version, len(pictures), groups, found, seen, gate, time.perf_counter() - start)


def _features(pictures: list[_Picture], images: Iterator[bytes]) -> tuple[dict[str, list[Family]], dict[str, list[Family]], list[Family]]:
    """Container families, pixel families and sizes of all pictures. No more than `SAMPLE` files are held at once."""
    files: dict[str, list[Family]] = defaultdict(list)
    marks: dict[str, list[Family]] = defaultdict(list)
    sizes: list[Family] = []
    excess: list[float | None] = []
    setting: tuple[int, int] | None = None
    waiting: list[Container] = []
    writers: list[set[str]] = []
    for picture, data in zip(pictures, images, strict=True):
        one = read_container(data, picture.id, Path(picture.place).suffix if isinstance(picture.place, Path) else "")
        waiting.append(one)
        for name, family in one.families.items():
            files[name].append(family)
        pixels = decode(data, picture.id)
        writers.append(container.writers_of(one, pixels))
        for name, family in traces.read_traces(pixels).items():
            marks[name].append(family)
        sizes.append({"bytes": float(one.size), "bytes_per_pixel": one.size / one.pixels})
        if len(waiting) == SAMPLE or (setting is not None and waiting) or len(sizes) == len(pictures):
            setting = setting or container.deflate_setting(waiting)
            excess += [container.size_excess(each, setting) for each in waiting]
            waiting = []
    _add_excess(files[container.SIZE], excess)
    container.settle_filters(files[container.ENCODER], writers)
    return dict(files), dict(marks), sizes


def _add_excess(families: list[Family], excess: list[float | None]) -> None:
    known = [value for value in excess if value is not None]
    usual = float(np.median(known)) if known else 0.0
    for place, value in enumerate(excess):
        if value is not None:
            families[place] = {**families[place], "excess": float(np.round((value - usual) / DEAD_ZONE)) * DEAD_ZONE}


def _verdicts(families: dict[str, list[Family]], setup: Design) -> tuple[Verdict, ...]:
    """A finding for each family. The more of them vary, the wider each interval, so that all of a clean dataset's hold together."""
    features = {name: matrix(rows) for name, rows in families.items()}
    error = ERROR / max(1, sum(values.shape[1] > 0 for values in features.values()))
    found = []
    for name, values in features.items():
        auc, low, high = auc_interval(out_of_fold(values, setup), setup, error) if values.shape[1] else (0.5, 0.5, 0.5)
        passed = low <= 0.5
        found.append(Verdict(name, round(auc, 4), round(low, 4), round(high, 4), passed, "" if passed else REMEDIES[name]))
    return tuple(found)


def _gate(found: tuple[Verdict, ...], files: dict[str, list[Family]], labels: np.ndarray) -> Gate:
    failed = [finding for finding in found if not finding.passed]
    if not failed:
        return Gate(True, "the files do not tell fake from real")
    said = []
    for finding in [each for each in failed if each.name != TOGETHER] or failed:
        hint = _difference(files[finding.name], labels) if finding.name in files else ""
        figures = f"AUC {finding.auc:.2f} [{finding.low:.2f}, {finding.high:.2f}]"
        said.append(f"{finding.name} ({figures}{'; ' if hint else ''}{hint}; remedy: {finding.remedy})")
    return Gate(False, f"the files tell fake from real by {', and by '.join(said)}")


def _difference(rows: list[Family], labels: np.ndarray) -> str:
    """The feature of a family that differs most between the classes, with the commonest value of each."""
    best, words = 0.0, ""
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(name) for row in rows]
        shares = [Counter(value for value, label in zip(values, labels, strict=True) if label == side) for side in (0, 1)]
        totals = [sum(each.values()) for each in shares]
        distance = sum(abs(shares[0][value] / totals[0] - shares[1][value] / totals[1]) for value in shares[0] | shares[1]) / 2
        if distance > best:
            usual = [each.most_common(1)[0][0] for each in shares]
            best, words = distance, f"{name}: real {_said(usual[0])}, fake {_said(usual[1])}"
    return words


def _said(value: float | str | None) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)[:60]


def _balanced(pictures: Sequence[_Picture]) -> list[_Picture]:
    """As many fakes as reals of each real source, at most `ROWS` in all of either; chosen by the hash of their ids, fake and real by turns.

    Without this, a dataset whose fakes are mostly faces and whose reals are mostly landscapes would be told apart by that.
    """
    sides: dict[tuple[str, int], list[_Picture]] = defaultdict(list)
    for picture in sorted(pictures, key=lambda each: hashlib.sha256(each.id.encode()).digest()):
        sides[picture.real, picture.label].append(picture)
    reals = sorted({real for real, _ in sides})
    counts = {real: min(len(sides[real, 0]), len(sides[real, 1])) for real in reals}
    share = min(1.0, ROWS / max(1, sum(counts.values())))
    chosen: list[list[_Picture]] = [[], []]
    for real, count in counts.items():
        for label in (0, 1):
            chosen[label] += sides[real, label][: int(np.ceil(count * share))]
    for label in (0, 1):  # the real sources by turns too, since the first files decide what the usual encoder is
        chosen[label].sort(key=lambda each: hashlib.sha256(each.id.encode()).digest())
    return [picture for pair in zip_longest(*chosen) for picture in pair if picture is not None]


def _stored_images(dataset: Any, pictures: list[_Picture]) -> Iterator[bytes]:
    rows = iter(pictures)
    while batch := list(islice(rows, BATCH)):
        yield from dataset._take_rows([picture.place for picture in batch], columns=["image"]).column("image").to_pylist()


def _found(path: Path) -> list[_Picture]:
    """All pictures of a folder. Their real source is where `real/` and `fake/` lie."""
    if not path.is_dir():
        raise InputError(f"there is no folder {path}", "Give a folder with `real/` and `fake/` in it, or the name of a dataset")
    files: dict[tuple[str, int], list[tuple[Path, Path]]] = defaultdict(list)
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            inside = file.relative_to(path)
            place = next((place for place, name in enumerate(inside.parts[:-1]) if name in CLASS_FOLDERS), None)
            if place is not None:
                real = "/".join(inside.parts[:place])
                files[real, CLASS_FOLDERS[inside.parts[place]]].append((file, Path(*inside.parts[place + 1 :])))
    for label, name in ((0, "real"), (1, "fake")):
        if not any(label == side for _, side in files):
            raise InputError(f"{path} has no pictures of the class {name}", f"Put them into {path / name}")
    group = _grouping([name for each in files.values() for _, name in each])
    return [
        _Picture(file.relative_to(path).as_posix(), label, real, f"{real}/{group(name)}", file)
        for (real, label), each in files.items()
        for file, name in each
    ]


def _grouping(names: list[Path]) -> Any:
    """What pictures of one group share: their folder, or the beginning of their name (`id07_frame12`), where there are enough of either;
    otherwise the name, so that a fake and the real of that name are one group."""
    for group in (_by_folder, _by_beginning):
        if len({group(name) for name in names}) >= max(2 * LEAST_GROUPS, len(names) // 50):
            return group
    return _by_name


def _by_folder(name: Path) -> str:
    return name.parent.as_posix()


def _by_beginning(name: Path) -> str:
    head, mark, _ = name.stem.replace("-", "_").rpartition("_")
    return f"{name.parent.as_posix()}/{head if mark else name.stem}"


def _by_name(name: Path) -> str:
    return name.with_suffix("").as_posix()


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has {path.stat().st_size:,} bytes", f"At most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "Check the path and its permissions") from None
