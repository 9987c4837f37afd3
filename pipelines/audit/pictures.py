"""The pictures that an audit looks at: of a version or a folder, as many fakes as reals of each real source."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import lance

from foreign.classes import CLASSES, accepted_names, class_place
from foreign.folders import list_pictures
from foreign.pictures import opened, orientation_of, read_bytes
from generators.errors import InputError
from pipelines.audit.classify import LEAST_GROUPS
from pipelines.reading import usable
from pipelines.store.upgrade import read_rows, take_rows

ROWS = 200  # of each class at most: what an audit costs is bounded
HEADERS = 2000  # pictures of a folder, of each class at most, whose dimensions are read to find equal ones
BATCH = 32  # images read at once


@dataclass(frozen=True)
class Picture:
    """One image to look at: a row of a version (`place` is its row id) or a file (`place` is its path). `label` is 1 for a fake.

    `dimensions` are width and height, where they are known without reading the image.
    """

    id: str
    label: int
    real: str
    group: str
    place: Any
    dimensions: tuple[int, int] | None = None

    @property
    def order(self) -> bytes:
        """What pictures are sorted by: a shuffle that is the same everywhere."""
        return hashlib.sha256(self.id.encode()).digest()


def pictures_of_version(dataset: lance.LanceDataset, delivery: str = "") -> list[Picture]:
    """All usable images of a version: the clean ones, or those of a delivery."""
    columns = ["id", "label", "real", "group"]
    table = read_rows(dataset, [*columns, "width", "height"], usable(dataset, delivery), row_ids=True)
    values = [table.column(name).to_pylist() for name in [*columns, "_rowid", "width", "height"]]
    return [
        Picture(name, label, real, group, place, (width, height))
        for name, label, real, group, place, width, height in zip(*values, strict=True)
    ]


def stored_images(dataset: lance.LanceDataset, pictures: Sequence[Picture]) -> Iterator[bytes]:
    """The encoded images of pictures of a version, in their order, some at a time."""
    rows = iter(pictures)
    while batch := list(islice(rows, BATCH)):
        yield from take_rows(dataset, [picture.place for picture in batch], ["image"]).column("image").to_pylist()


def pictures_of_folder(path: Path) -> list[Picture]:
    """All pictures in class folders such as `real/` and `fake/` (`foreign.classes`), at any depth. Their real source is where these lie.

    InputError if a class is missing, or a picture lies in folders of no class or of both.
    """
    if not path.is_dir():
        raise InputError(f"there is no folder {path}", "Give a folder with `real/` and `fake/` in it, or the name of a dataset")
    files: dict[tuple[str, int], list[tuple[Path, Path]]] = defaultdict(list)
    lost: list[Path] = []
    for file in list_pictures(path).files:
        inside = file.relative_to(path)
        try:
            place = class_place(inside.parts[:-1])
        except ValueError:
            raise InputError(f"{file} lies in folders of both classes", "Move it, so that it has one class folder above it") from None
        if place is None:
            lost.append(file)
        else:
            depth, label = place
            files["/".join(inside.parts[:depth]), label].append((file, Path(*inside.parts[depth + 1 :])))
    for label, name in enumerate(CLASSES):
        if not any(label == side for _, side in files):
            raise InputError(f"{path} has no pictures of the class {name}", f"Put them into {path / name}")
    if lost:
        others = f" (and {len(lost) - 1:,} more)" if len(lost) > 1 else ""
        raise InputError(f"{lost[0]}{others} lies in no folder of a class", f"Class folders are {accepted_names()}")
    group = _grouping([[name for (_, side), pairs in files.items() if side == label for _, name in pairs] for label in (0, 1)])
    return [
        Picture(file.relative_to(path).as_posix(), label, real, f"{real}/{group(name)}", file)
        for (real, label), pairs in files.items()
        for file, name in pairs
    ]


def measured(pictures: Sequence[Picture]) -> list[Picture]:
    """As `balanced`, at most `HEADERS` of each class, with the dimensions that their files declare, turned upright. Decodes nothing.

    InputError if one cannot be read.
    """
    return [replace(picture, dimensions=_declared(picture.place)) for picture in balanced(pictures, HEADERS)]


def _declared(file: Path) -> tuple[int, int]:
    with opened(read_bytes(file), str(file)) as header:
        width, height = header.size
        return (height, width) if orientation_of(header) >= 5 else (width, height)


def balanced(pictures: Sequence[Picture], most: int = ROWS) -> list[Picture]:
    """As many fakes as reals of each real source, at most `most` in all of either; chosen by the hash of their ids, fake and real by turns.

    Without this, a dataset whose fakes are mostly faces and whose reals are mostly landscapes would be told apart by that.
    """
    sides: dict[tuple[str, int], list[Picture]] = defaultdict(list)
    for picture in sorted(pictures, key=lambda picture: picture.order):
        sides[picture.real, picture.label].append(picture)
    reals = sorted({real for real, _ in sides})
    counts = {real: min(len(sides[real, 0]), len(sides[real, 1])) for real in reals}
    chosen: list[list[Picture]] = [[], []]
    for real, count in _shared_out(counts, most).items():
        for label in (0, 1):
            chosen[label] += sides[real, label][:count]
    for label in (0, 1):  # the real sources by turns too, since the first files decide what the usual encoder is
        chosen[label].sort(key=lambda picture: picture.order)
    return [picture for pair in zip_longest(*chosen) for picture in pair if picture is not None]


def _shared_out(counts: dict[str, int], most: int) -> dict[str, int]:
    """The same share of each count, `most` in all where there are more. What is lost by rounding goes to where the most of it is lost."""
    total = sum(counts.values())
    if total <= most:
        return counts
    shares = {name: divmod(count * most, total) for name, count in counts.items()}
    left = most - sum(whole for whole, _ in shares.values())
    order = sorted(shares, key=lambda name: (-shares[name][1], hashlib.sha256(name.encode()).digest()))
    more = set(order[:left])
    return {name: shares[name][0] + (name in more) for name in counts}


def of_equal_dimensions(pictures: Sequence[Picture]) -> list[Picture]:
    """As `balanced`, with as many fakes as reals of every width and height too. What has no counterpart is left out.

    The rule for versions and folders with pictures of several sizes: what a file or its pixels tell must not be that they are larger.
    """
    named = [replace(picture, real=f"{picture.real} {picture.dimensions}") for picture in pictures]
    return balanced(named)


def _grouping(names: Sequence[Sequence[Path]]) -> Callable[[Path], str]:
    """What pictures of one group share: their folder, or the beginning of their name (`id07_frame12`), where each class has enough of
    either; otherwise the name, so that a fake and the real of that name are one group.

    `names` are those of the reals and those of the fakes. Both must have enough: `fake_0` to `fake_199` are no single group.
    """
    for group in (_by_folder, _by_beginning):
        if all(len({group(name) for name in side}) >= max(LEAST_GROUPS, len(side) // 50) for side in names):
            return group
    return _by_name


def _by_folder(name: Path) -> str:
    return name.parent.as_posix()


def _by_beginning(name: Path) -> str:
    head, mark, _ = name.stem.replace("-", "_").rpartition("_")
    return f"{name.parent.as_posix()}/{head if mark else name.stem}"


def _by_name(name: Path) -> str:
    return name.with_suffix("").as_posix()
