"""What every section of the page draws from: one version of a store, what was measured about its detectors, and the page's album."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from pipelines.features import FeatureNetwork
from pipelines.images import decode
from pipelines.manifest.schema import Manifest
from pipelines.report.album import Album
from pipelines.report.inputs import Inputs
from pipelines.report.quality import Quality, subset_quality
from pipelines.store import Row, Store, Version
from pipelines.store.schema import quoted

Item = TypeVar("Item")
BATCH_IMAGES = 64
MASK = "#mask"  # behind the id of an image: its mask
ALL_THUMBNAILS, ALL_STRIPS = 432, 72  # on the whole page, so that a hundred subsets still make a page that opens


@dataclass
class Source:
    """One version with its rows (without their images), the inputs about its detectors, and the album that its pictures go to."""

    store: Store
    version: Version
    manifest: Manifest
    rows: Sequence[Row]
    inputs: Inputs
    features: FeatureNetwork | None = None
    album: Album = field(default_factory=Album)

    @property
    def dataset(self) -> str:
        return self.store.name

    @property
    def named(self) -> str:
        """The dataset as commands name it, with its store where that is not the one that commands look into by themselves."""
        place = self.store.root.location
        return shlex.quote(self.dataset) + (f" --store {shlex.quote(place)}" if place != "store" else "")

    @cached_property
    def by_id(self) -> dict[str, Row]:
        """Images by id; rejected tries share ids with what came of them and are left out."""
        return {row.id: row for row in self.rows if row.role != "rejected"}

    @cached_property
    def finals(self) -> dict[str, list[Row]]:
        """The finished images of each subset of the manifest: fakes, but for subsets of retouched real images."""
        return self._rows_of("final", self.manifest.subsets)

    @cached_property
    def reals(self) -> dict[str, list[Row]]:
        """The images of each real source."""
        return self._rows_of("real", self.manifest.reals)

    @cached_property
    def rejected(self) -> dict[str, Counter[str]]:
        """The rejected tries of each subset, by reason."""
        reasons: dict[str, Counter[str]] = {name: Counter() for name in self.manifest.subsets}
        for row in self.rows:
            if row.role == "rejected" and row.subset in reasons:
                reasons[row.subset][row.reason or "no reason given"] += 1
        return reasons

    @cached_property
    def qualities(self) -> dict[str, Quality]:
        """What was measured of each subset, with FID and KID where there is a feature network."""
        reals = {name: self._features("real", name) for name in self.manifest.reals}
        qualities = {}
        for name, rows in self.finals.items():
            compared = [features for real in self.manifest.subsets[name].reals if (features := reals[real]) is not None]
            joined = np.concatenate(compared) if compared else None
            measures = [row.measures for row in rows]
            qualities[name] = subset_quality(measures, self.rejected[name].total(), self._features("final", name), joined)
        return qualities

    def command(self, image: str) -> str:
        """What to type to see all that is known of an image."""
        return f"ntf store show {self.named} {shlex.quote(image)} --version {self.version.number}"

    def pixels(self, ids: Iterable[str]) -> dict[str, np.ndarray]:
        """Pictures by id, `uint8` RGB `[H, W, 3]`; an id that is not in the version is left out. The mask of an image, where it has one,
        has its id with `MASK` behind it."""
        wanted = set(ids)
        images = self.store.images(wanted, self.version.number)
        masks = self.store.masks(wanted, self.version.number)
        pictures = {name: decode(image, name) for name, image in images.items()}
        return pictures | {f"{name}{MASK}": decode(mask, f"the mask of {name}") for name, mask in masks.items()}

    def thumbnails(self, groups: int, most: int = 24) -> int:
        """How many thumbnails each of so many groups may show."""
        return max(6, min(most, ALL_THUMBNAILS // max(1, groups)))

    def strips(self, groups: int, most: int = 4) -> int:
        """How many strips each of so many groups may show."""
        return max(1, min(most, ALL_STRIPS // max(1, groups)))

    def _rows_of(self, role: str, names: Iterable[str]) -> dict[str, list[Row]]:
        """The rows of a role, under each of the names of subsets or real sources."""
        grouped: dict[str, list[Row]] = {name: [] for name in names}
        for row in self.rows:
            if row.role == role and row.subset in grouped:
                grouped[row.subset].append(row)
        return grouped

    def _features(self, role: str, subset: str) -> np.ndarray | None:
        """Features `[N, D]` of the images of a subset, read a batch at a time. None without a network or without images."""
        if self.features is None:
            return None

        def pictures() -> Iterator[np.ndarray]:
            where = f"role = {quoted(role)} AND subset = {quoted(subset)}"
            for batch in self.store.scan(["id", "image"], where, self.version.number, BATCH_IMAGES):
                for row in batch.to_pylist():
                    yield decode(row["image"], row["id"])

        return self.features.embed(pictures())


@dataclass(frozen=True)
class Section:
    """One section of the page: its anchor, its title, and what it shows.

    `view` gives None where there is nothing to show. Then `hint` says which command makes something, `{dataset}` being its name.
    """

    anchor: str
    title: str
    view: Callable[[Source], dict[str, Any] | None]
    hint: str = ""

    @property
    def template(self) -> str:
        """The path of its template, which lies beside the module of `view` and has its name."""
        return self.view.__module__.removeprefix("pipelines.report.").replace(".", "/") + ".html.j2"


def anchor(name: str) -> str:
    """A name as part of an address within the page."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def spread(rows: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the rows, evenly spread."""
    return list(rows[:: max(1, len(rows) // most)][:most]) if rows else []
