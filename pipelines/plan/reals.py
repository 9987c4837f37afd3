"""Real images: where they come from, which of them a dataset takes, and which of them a fake is made from."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np

from foreign.folders import list_pictures, said
from foreign.lists import closest, plain, read_lines, read_pairs
from foreign.pictures import opened, orientation_of
from foreign.text import visible
from generators.demo.pictures import distinct_crops, held_out_pictures
from generators.errors import InputError
from pipelines.catalogue.identity import cached_sha256s
from pipelines.images import SUFFIXES, read_bytes, read_image
from pipelines.manifest.schema import RealSource, Splits
from pipelines.manifest.splits import SPLITS, Split, SplitList, split_of

LYING = 5  # EXIF orientations from here on lie on their side
HEADERS = 16  # files of a real source that an estimate looks into
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

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the upright picture, from the file's header. InputError if it is no image."""
        if self.file is None:
            pixels = self.load()
            return pixels.shape[0], pixels.shape[1]
        return _upright_shape(self.file)


@dataclass(frozen=True)
class RealPool:
    """The images of one real source that fakes may be made from, in the order of their sha256. The first `taken` are in the dataset."""

    name: str
    licence: str
    images: tuple[RealImage, ...]
    taken: int
    notes: tuple[str, ...] = ()  # sentences for the user: what was left out

    def mean_pixels(self) -> float:
        """How many pixels an image has, from the headers of a few of them."""
        return float(np.mean([np.prod(image.shape) for image in self.images[:HEADERS]]))

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

    def nearest(self, seeds: np.ndarray, splits: SplitList) -> list[RealImage | None]:
        """The first image that `around` gives for each of these seeds (uint64 `[N]`) in its split; None where that has no image."""
        nearest: list[RealImage | None] = [None] * len(seeds)
        wanted = seeds << np.uint64(1)
        for number, split in enumerate(SPLITS):
            ring, places = self._rings[split]
            chosen = np.flatnonzero(splits.numbers == number)
            if not ring or not len(chosen):
                continue
            if (numbers := self._numbers[split]) is not None:
                starts = np.searchsorted(numbers, wanted[chosen]) % len(ring)
            else:
                starts = np.array([bisect_left(places, f"{seed:016x}") % len(ring) for seed in wanted[chosen].tolist()])
            for at, start in zip(chosen.tolist(), starts.tolist(), strict=True):
                nearest[at] = ring[start]
        return nearest

    @cached_property
    def _numbers(self) -> dict[str, np.ndarray | None]:
        """The places of each split as uint64, which have the same order; None where they are not all of 16 digits."""
        digits = re.compile("[0-9a-f]{16}")
        return {
            split: np.array([int(place, 16) for place in places], np.uint64) if all(map(digits.fullmatch, places)) else None
            for split, (_, places) in self._rings.items()
        }


def open_pool(name: str, source: RealSource, splits: Splits, count: int) -> RealPool:
    """The pool of a real source, chosen by content: `count` images are taken at most (or `source.count`, where the manifest says it), and
    fakes may draw from `source.pool`.

    Raises InputError if the folder is missing or empty, the identity list does not cover it, or an excluded identity is nobody in it.
    """
    images, notes = (_from_package(name, source, splits), ()) if source.package else _from_folder(name, source, splits)
    # A package has left them out already.
    known = {image.identity for image in images} | set(read_identities(source).values())
    excluded = frozenset() if source.package else excluded_identities(name, source, known)
    kept = sorted((image for image in images if image.identity not in excluded), key=lambda image: image.sha256)
    unique = [image for before, image in zip([None, *kept], kept, strict=False) if before is None or before.sha256 != image.sha256]
    if not unique:
        raise InputError(f"real source {name}: {source.exclude} leaves no image", "Add images of other people")
    wanted = source.count or count
    if source.count and len(unique) < source.count:
        raise InputError(f"real source {name} has {len(unique)} images, and {source.count} are asked for", "Lower `count` or add images")
    images = unique[: max(wanted, source.pool or 0)]
    return RealPool(name, source.licence, tuple(images), min(wanted, len(images)), notes)


def list_source(name: str, source: RealSource) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files of a real source's folder by their names as lists give them, and sentences on what is left out or odd.

    Nothing is decoded or hashed. Raises InputError if the folder is missing or empty, or the identity list does not cover it.
    """
    folder = source.path
    assert folder is not None
    if not folder.is_dir():
        raise InputError(f"real source {name}: there is no folder {folder}", "Put the images there, or change `path`")
    listing = list_pictures(folder)
    left_out = said(listing.left_out)
    if not listing.files:
        rest = f"; {left_out}" if left_out else ""
        raise InputError(f"real source {name}: no images in {folder}{rest}", f"It takes {', '.join(sorted(SUFFIXES))}")
    files: dict[str, Path] = {}
    for file in listing.files:
        relative = plain(file.relative_to(folder).as_posix())
        if relative in files:
            raise InputError(
                f"real source {name}: {file} and {files[relative]} have one name but for spaces or accents", "Rename one of them"
            )
        files[relative] = file
    notes = [f"real source {name}: {left_out}"] if left_out else []
    if source.identities is not None:
        notes += _check_identities(name, source.identities, read_identities(source), files)
    return files, tuple(notes)


def read_identities(source: RealSource) -> dict[str, str]:
    """The list `file,identity` of a real source, by file; empty if it has none."""
    return read_pairs(source.identities, "the identity list") if source.identities is not None else {}


def excluded_identities(name: str, source: RealSource, known: Collection[str | None]) -> frozenset[str]:
    """The identities that must not be used. InputError for one that is not `known`: a withdrawn person must not stay for a misspelling."""
    if source.exclude is None:
        return frozenset()
    lines = [(number, plain(line)) for number, line in read_lines(source.exclude, "the list of excluded identities")]
    unknown = [(number, identity) for number, identity in lines if identity not in known]
    if unknown:
        number, identity = unknown[0]
        others = f" (and {len(unknown) - 1} more lines)" if len(unknown) > 1 else ""
        where = source.identities or f"real source {name}"
        fix = closest(identity, [person for person in known if person]) if source.identities or source.package else ""
        hint = "Write one identity on each line, as the identity list has it" if source.identities else "`exclude` needs `identities`"
        raise InputError(f"{source.exclude}, line {number}: {identity!r} is nobody in {where}{others}", fix or hint)
    return frozenset(identity for _, identity in lines)


def _check_identities(name: str, file: Path, identities: Mapping[str, str], files: Mapping[str, Path]) -> Iterator[str]:
    """InputError if a file has no identity. Gives sentences on what is odd in the list."""
    for relative in files:
        if relative not in identities:
            fix = "Write `/` between folders" if any("\\" in listed for listed in identities) else "List every file as `file,identity`"
            raise InputError(f"{file} has no identity for {visible(relative)}", fix)
    if unused := len(identities.keys() - files.keys()):
        yield f"real source {name}: {unused:,} line{'s' * (unused > 1)} of {file} name{'s' * (unused == 1)} no picture of the folder"
    spellings: dict[str, set[str]] = {}
    for identity in identities.values():
        spellings.setdefault(" ".join(identity.casefold().split()), set()).add(identity)
    alike = [sorted(written) for written in spellings.values() if len(written) > 1]
    if alike:
        yield f"real source {name}: {file} has {alike[0][0]!r} and {alike[0][1]!r}, which count as two people ({len(alike):,} such cases)"


def _from_package(name: str, source: RealSource, splits: Splits) -> list[RealImage]:
    collection = source.package
    assert collection is not None
    count = source.count or PACKAGE_COUNTS[collection]
    images = []
    people = held_out_pictures(collection)
    excluded = excluded_identities(name, source, {picture.identity for picture in people})  # before cutting, so that `count` can be reached
    pictures = [picture for picture in people if picture.identity not in excluded]
    for picture, cut in distinct_crops(pictures, count, seed=0):
        digest = hashlib.sha256(cut.tobytes()).hexdigest()
        group = picture.identity or picture.photograph
        split = split_of(f"{name}/{group}", splits)
        images.append(RealImage(f"real/{name}/{digest[:16]}", digest, group, picture.identity, split, partial(np.asarray, cut)))
    return images


def _from_folder(name: str, source: RealSource, splits: Splits) -> tuple[list[RealImage], tuple[str, ...]]:
    files, notes = list_source(name, source)
    identities = read_identities(source)
    images = []
    for (relative, file), digest in zip(files.items(), cached_sha256s(list(files.values())), strict=True):
        identity = identities[relative] if source.identities else digest[:16]
        split = split_of(f"{name}/{identity}", splits)
        images.append(RealImage(f"real/{name}/{digest[:16]}", digest, identity, identity, split, partial(read_image, file), file))
    return images, notes


@lru_cache(maxsize=65536)
def _upright_shape(file: Path) -> tuple[int, int]:
    with opened(read_bytes(file), str(file)) as picture:
        width, height = picture.size
        return (width, height) if orientation_of(picture) >= LYING else (height, width)


def splits_without_images(pool: RealPool) -> Sequence[Split]:
    """Splits that got no image, for a warning before the build starts."""
    return [split for split in SPLITS if not any(image.split == split for image in pool.images)]
