"""Near-duplicates of a version by the features of a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipelines.examine.duplicates import SIMILARITY, Among, Pair, find_similar
from pipelines.features import FeatureNetwork
from pipelines.images import decode
from pipelines.store import Store


def similar_images(
    store: Store, network: Path, version: int | str | None = None, similarity: float = SIMILARITY, among: Among = "splits"
) -> list[Pair]:
    """The pairs of final images and reals whose features are alike. InputError if the file is no network that gives features."""
    ids: list[str] = []

    def pictures() -> Iterator[np.ndarray]:
        for batch in store.scan(["id", "image"], "role IN ('final', 'real')", version):
            for row in batch.to_pylist():
                ids.append(row["id"])
                yield decode(row["image"], row["id"])

    features = FeatureNetwork(network).embed(pictures())
    return [] if features is None else find_similar(ids, features, store, version, similarity, among)
