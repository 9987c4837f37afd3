"""How many images one manifest may plan. A line such as `count: 100000000000` would fill the memory before the first image is made."""

from __future__ import annotations

import os
from collections.abc import Iterator

from foreign.errors import InputError
from pipelines.manifest.schema import Manifest
from pipelines.manifest.yaml_lines import KeyPath

VARIABLE = "NTF_MOST_IMAGES"
MOST_IMAGES = 1_000_000  # fakes, each counted once for each step of its chain; the paper's dataset has 106,000


def planned_images(manifest: Manifest, subset: str) -> int:
    """How many images a subset plans: the fakes of each part, once for each step of its chain."""
    return sum(part.count * len(part.chain) for part in manifest.subsets[subset].parts)


def too_many_images(manifest: Manifest) -> Iterator[tuple[str, str, KeyPath]]:
    """Problem, fix and key path if the manifest plans more images than are allowed: at the subset with the most of them."""
    most = most_images()
    planned = {name: planned_images(manifest, name) for name in manifest.subsets}
    if sum(planned.values()) > most:
        fix = f"Lower its count, or set {VARIABLE}={sum(planned.values())} if you trust the manifest"
        largest = max(planned, key=planned.__getitem__)
        yield f"the manifest plans {sum(planned.values()):,} images, of {most:,} at most; {largest} has the most", fix, ("subsets", largest)


def most_images() -> int:
    """The bound: MOST_IMAGES, or what NTF_MOST_IMAGES says. Raises InputError if that is no whole number above zero."""
    given = os.environ.get(VARIABLE, "")
    if not given:
        return MOST_IMAGES
    if not (given.isascii() and given.isdigit() and 0 < len(given) <= 18 and int(given) > 0):
        raise InputError(f"{VARIABLE} is {given!r}", "Set it to a whole number of images, or leave it out")
    return int(given)
