"""Subsets, real sources and families of rows that say them: those of shards and of Hugging Face datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ntf_model.data.data import DetectionData
from ntf_model.data.reading.checks import check_contents
from ntf_model.data.reading.labels import FAKE, REAL
from ntf_model.errors import InputError

SOURCE_KEYS = ("real_source", "real", "part")  # how a fake's row names its real source: here, in the store, in a store of schema 1


class Facts:
    """Real sources and families of the subsets of fakes: as given, else what the fakes' rows say."""

    def __init__(self, real_of: Mapping[str, str], families: Mapping[str, str]):
        self.real_of, self.families = real_of, dict(families)
        self.sources: dict[str, dict[str, None]] = {}  # of a subset, in order: one with several parts has several

    def note(self, row: Mapping[str, Any], subset: str) -> None:
        """Takes in what the row of a fake says."""
        source = next((row[key] for key in SOURCE_KEYS if row.get(key)), None)
        if source is not None:
            self.sources.setdefault(subset, {})[str(source)] = None
        if row.get("family"):
            self.families.setdefault(subset, str(row["family"]))

    def sources_of(self, subset: str, all_sources: Sequence[str]) -> str | tuple[str, ...]:
        """The real sources of a subset; the only one there is where nobody has said. InputError if there are several."""
        if subset in self.real_of:
            return self.real_of[subset]
        names = tuple(self.sources.get(subset, ())) or tuple(all_sources)
        if len(names) == 1:
            return names[0]
        if subset in self.sources:
            return names
        raise InputError(
            f"which reals does the subset {subset!r} belong to? There are {', '.join(all_sources) or 'none'}", "Name them in `real_of`"
        )


def described(
    dataset: Any,
    labels: np.ndarray,
    subsets: np.ndarray,
    ids: Sequence[str],
    contents: Sequence[str],
    facts: Facts,
    where: str,
    notes: tuple[str, ...] = (),
    originals: Sequence[str] | None = None,
) -> DetectionData:
    """A split of such rows. InputError if the same picture or the same id has both labels, or a subset's reals are not certain."""
    check_contents(zip(labels.tolist(), contents, ids, strict=True), where)
    fakes = list(dict.fromkeys(subsets[labels == FAKE].tolist()))
    sources = list(dict.fromkeys(subsets[labels == REAL].tolist()))
    named = {name: facts.sources_of(name, sources) for name in fakes}
    listing = "\n".join(
        f"{label}\t{name}\t{picture}\t{sha}" for label, name, picture, sha in zip(labels, subsets, ids, contents, strict=True)
    )
    digest = hashlib.sha256(listing.encode()).hexdigest()
    families = {name: facts.families.get(name, "other") for name in fakes}
    made_from = None if originals is None else np.asarray(originals, dtype=object).astype(str)
    names, shas = (np.asarray(values, dtype=object).astype(str) for values in (ids, contents))
    return DetectionData(dataset, labels, subsets, named, families, digest, names, {}, notes, made_from, shas)
