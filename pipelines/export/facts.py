"""What an export's datasheet, card and metadata are written from: the version's own records, and what its publisher states."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from generators.errors import InputError
from pipelines.export.licences import unsupported
from pipelines.export.selection import Selection
from pipelines.images import ENDINGS
from pipelines.manifest.publication import Publication
from pipelines.manifest.schema import Manifest
from pipelines.store import Store, Version
from pipelines.store.versions.version import SECONDS


@dataclass(frozen=True)
class Step:
    """One step of the chain of a subset, as the rows recorded it."""

    subset: str
    position: int
    kind: str
    generator: str
    checkpoint: str
    sha256: str


class Lineage:
    """The steps that made the exported images, collected row by row, each with its number of images."""

    def __init__(self) -> None:
        self.steps: Counter[Step] = Counter()

    def add(self, row: Mapping[str, Any]) -> None:
        for position, link in enumerate(row["chain"], 1):
            checkpoint, sha256 = link["checkpoint"], link["identity"]["sha256"]
            self.steps[Step(row["subset"], position, link["kind"], link["generator"], checkpoint, sha256)] += 1


@dataclass(frozen=True)
class Hours:
    """How long devices were held for making images, as builds recorded it. `missing` is the number of versions without a record."""

    seconds: Mapping[str, float]
    missing: int

    @classmethod
    def of(cls, versions: Iterable[Version]) -> Hours:
        seconds: dict[str, float] = defaultdict(float)
        missing = 0
        for version in versions:
            try:
                spent = float(version.properties[SECONDS])
            except (KeyError, ValueError):
                missing += "manifest" in version.properties
                continue
            if spent > 0:
                seconds[version.properties.get("device", "").partition(":")[0].partition(",")[0] or "unknown"] += spent
        return cls(dict(seconds), missing)

    def said(self) -> str:
        """In one phrase: "1.25 GPU hours"; "" where nothing was recorded."""
        names = {"cuda": "GPU hours", "cpu": "CPU-device hours", "mps": "GPU hours (Apple)"}
        parts = [f"{_figure(spent / 3600)} {names.get(device, f'hours on {device}')}" for device, spent in sorted(self.seconds.items())]
        if not parts:
            return ""
        tail = f"; {self.missing} older {'version' if self.missing == 1 else 'versions'} recorded no time" if self.missing else ""
        return f"{'at least ' if self.missing else ''}{' and '.join(parts)}{tail}"


@dataclass(frozen=True)
class Facts:
    """What metadata says about an export. `repository` is its name on the Hub, empty for an export that is not published there."""

    name: str
    version: int
    created: datetime
    digest: str
    form: str
    manifest: Manifest
    counts: Counter[tuple[str, str, str]]  # subset, role, split
    rejected: dict[str, Counter[str]]
    licences: dict[str, str]
    software: str
    hours: Hours
    delivery: str = ""
    repository: str = ""
    run_id: str = ""
    lineage: Lineage = field(default_factory=Lineage)

    @classmethod
    def of(
        cls,
        store: Store,
        version: Version,
        selection: Selection,
        licences: dict[str, str],
        form: str,
        publication: Publication | None = None,
        repository: str = "",
        lineage: Lineage | None = None,
    ) -> Facts:
        """The facts of a version's selection. `publication` replaces the block `publish` of the version's own manifest."""
        rejected: dict[str, Counter[str]] = defaultdict(Counter)
        for batch in store.scan(["subset", "reason"], "role = 'rejected'", version.number):
            for subset, reason in zip(batch.column("subset").to_pylist(), batch.column("reason").to_pylist(), strict=True):
                rejected[subset][reason or ""] += 1
        manifest = Manifest.model_validate(version.manifest)
        if publication is not None:
            manifest = manifest.model_copy(update={"publish": publication})
        return cls(
            store.name,
            version.number,
            version.created,
            version.digest,
            form,
            manifest,
            selection.counts,
            rejected,
            licences,
            version.properties.get("ntf", ""),
            Hours.of(earlier for earlier in store.log() if earlier.number <= version.number),
            selection.delivery,
            repository,
            version.properties.get("run_id", ""),
            lineage or Lineage(),
        )

    @property
    def publication(self) -> Publication:
        return self.manifest.publish

    @property
    def title(self) -> str:
        return self.publication.title or self.name

    @property
    def url(self) -> str | None:
        """The dataset's page, as its publisher states it, or else its address on the Hub."""
        return self.publication.url or (f"https://huggingface.co/datasets/{self.repository}" if self.repository else None)

    @property
    def images(self) -> int:
        return sum(self.counts.values())

    @property
    def splits(self) -> list[str]:
        return [split for split in ("train", "validation", "test") if any(key[2] == split for key in self.counts)]

    @property
    def suffix(self) -> str:
        """The end of the names of image files."""
        return ENDINGS[self.manifest.codec.format]

    def of_label(self, role: str) -> int:
        return sum(count for (_, kind, _), count in self.counts.items() if kind == role)

    def is_retouched(self, subset: str, role: str) -> bool:
        """Whether the images of a subset are real ones that a chain edited (`label: real`)."""
        return role == "real" and subset in self.manifest.subsets

    @property
    def retouched(self) -> str:
        """How many of the reals were retouched, in words; empty where none were."""
        number = sum(count for (subset, role, _), count in self.counts.items() if self.is_retouched(subset, role))
        return f" ({number:,} of them retouched)" if number else ""


def require_covered(publication: Publication, licences: Mapping[str, str]) -> None:
    """InputError if the licence that the publisher states for the whole allows what the licence of a part does not."""
    part = unsupported(publication.licence, licences)
    if part:
        raise InputError(
            f"`publish: {{licence: {publication.licence}}}` allows more than that of {part} ({licences[part]})",
            "State a licence that all parts allow, leave the part out with --where, or leave `licence` out",
        )


def _figure(value: float) -> str:
    """A figure with two significant digits at least."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.1f}"
