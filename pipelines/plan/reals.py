"""Real images: where they come from, which of them a dataset takes, and which of them a fake is made from."""

from __future__ import annotations

import csv
import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from generators.demo.pictures import distinct_crops, held_out_pictures
from generators.errors import InputError
from pipelines.catalogue.identity import cached_sha256s
from pipelines.images import SUFFIXES, read_image
from pipelines.manifest.schema import RealSource, Splits
from pipelines.manifest.splits import SPLITS, Split, split_of

PACKAGE_COUNTS = {"faces": 120, "photos": 180}


@dataclass(frozen=True)
class RealImage:
    """One real image, not yet decoded. `group` is the photograph or person that decides its split; `file` is where it lies, if it does."""

    id: str
    sha256: str
    group: str
    identity: str | None
    split: Split
    load: Callable[[], np.ndarray] = field(compare=False)
    file: Path | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RealPool:
    """The images of one real source that a dataset takes, in the order of their sha256."""

    name: str
    licence: str
    images: tuple[RealImage, ...]

    @cached_property
    def _rings(self) -> dict[str, tuple[list[RealImage], list[str]]]:
        """For each split its images in order, and their places."""
        rings = {split: [image for image in self.images if image.split == split] for split in SPLITS}
        return {split: (ring, [image.sha256[:16] for image in ring]) for split, ring in rings.items()}

    def around(self, seed: int, split: Split) -> Iterator[RealImage]:
        """The images of `split`, beginning with the one that `seed` falls on.

        Images stand on a ring, at places given by their content. So an image that is added or removed changes only the draws that fall
        on its arc, and only the shards that hold those draws become stale.
        """
        ring, places = self._rings[split]
        start = bisect_left(places, f"{seed << 1:016x}")  # seeds have 63 bits, places 64
        for offset in range(len(ring)):
            yield ring[(start + offset) % len(ring)]


def open_pool(name: str, source: RealSource, splits: Splits, count: int) -> RealPool:
    """The pool of a real source: at most `count` images (or `source.count`, where the manifest says it), chosen by their content.

    Raises InputError if the folder is missing or empty, or the identity list does not cover it.
    """
    images = _from_package(name, source, splits) if source.package else _from_folder(name, source, splits)
    excluded = _excluded(source)
    kept = sorted((image for image in images if image.identity not in excluded), key=lambda image: image.sha256)
    unique = [image for before, image in zip([None, *kept], kept, strict=False) if before is None or before.sha256 != image.sha256]
    wanted = source.count or count
    if source.count and len(unique) < source.count:
        raise InputError(f"real source {name} has {len(unique)} images, and {source.count} are asked for", "Lower `count` or add images")
    return RealPool(name, source.licence, tuple(unique[:wanted]))


def _from_package(name: str, source: RealSource, splits: Splits) -> list[RealImage]:
    collection = source.package
    assert collection is not None
    count = source.count or PACKAGE_COUNTS[collection]
    images = []
    excluded = _excluded(source)  # before cutting, so that `count` can still be reached
    pictures = [picture for picture in held_out_pictures(collection) if picture.identity not in excluded]
    for picture, cut in distinct_crops(pictures, count, seed=0):
        digest = hashlib.sha256(cut.tobytes()).hexdigest()
        group = picture.identity or picture.photograph
        split = split_of(f"{name}/{group}", splits)
        images.append(RealImage(f"real/{name}/{digest[:16]}", digest, group, picture.identity, split, partial(np.asarray, cut)))
    return images


def _from_folder(name: str, source: RealSource, splits: Splits) -> list[RealImage]:
    folder = source.path
    assert folder is not None
    if not folder.is_dir():
        raise InputError(f"real source {name}: there is no folder {folder}", "Put the images there, or change `path`")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise InputError(f"real source {name}: no images in {folder}", f"It takes {', '.join(sorted(SUFFIXES))}")
    identities = _identities(source.identities)
    images = []
    for file, digest in zip(files, cached_sha256s(files), strict=True):
        relative = file.relative_to(folder).as_posix()
        if identities and relative not in identities:
            raise InputError(f"{source.identities} has no identity for {relative}", "List every file as `file,identity`")
        identity = identities.get(relative, digest[:16])
        split = split_of(f"{name}/{identity}", splits)
        images.append(RealImage(f"real/{name}/{digest[:16]}", digest, identity, identity, split, partial(read_image, file), file))
    return images


def _identities(path: Path | None) -> dict[str, str]:
    """The CSV (or, as CelebA has it, space-separated) list `file identity`."""
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the identity list {path}: {error.strerror}", "Check `identities` in the manifest") from None
    rows = csv.reader(text.splitlines(), delimiter="," if "," in text else " ", skipinitialspace=True)
    return {row[0]: row[1] for row in rows if len(row) >= 2}


def _excluded(source: RealSource) -> frozenset[str]:
    """Identities that must not be used, one a line."""
    if source.exclude is None:
        return frozenset()
    try:
        return frozenset(line.strip() for line in source.exclude.read_text(encoding="utf-8").splitlines() if line.strip())
    except OSError as error:
        raise InputError(f"cannot read the list of excluded identities {source.exclude}: {error.strerror}", "Check `exclude`") from None


def splits_without_images(pool: RealPool) -> Sequence[Split]:
    """Splits that got no image, for a warning before the build starts."""
    return [split for split in SPLITS if not any(image.split == split for image in pool.images)]
