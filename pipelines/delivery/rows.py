"""Delivered images as rows of the store: what a shard of them is made from, and what its rows say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from generators.seeding import derive_seed
from pipelines.delivery.deliver import deliver
from pipelines.manifest.deliveries import as_data, expanded
from pipelines.manifest.schema import Codec, Manifest
from pipelines.store import Row

MARK = "@"  # between the id of an image and the name of its delivery: no real source or subset has it in its name


@dataclass(frozen=True)
class Delivering:
    """An image of the store that is about to be delivered. It becomes a row in the threads that encode a shard."""

    clean: Row
    manifest: Manifest
    name: str
    key: str

    @property
    def row(self) -> Row:
        """The row without its picture: of the image, under the id of the delivery."""
        clean = self.clean
        empty = dict.fromkeys(("image", "format", "width", "height", "bytes", "sha256", "phash", "mask", "mask_sha256"))
        return replace(
            clean,
            id=f"{clean.id}{MARK}{self.name}",
            role="delivered",
            delivery=self.name,
            shard_key=self.key,
            target_id=clean.id,
            measures={},
            **empty,  # type: ignore[arg-type]
        )

    def encoded(self, codec: Codec) -> Row:
        """The whole row. The bytes are those of the delivery, whatever the dataset's `codec` is."""
        clean, steps = self.clean, expanded(self.manifest.deliveries[self.name])
        assert clean.image is not None
        seed = seed_of(self.manifest, self.name, clean.id)
        result = deliver(clean.image, steps, seed, clean.id)
        facts = {"recipe": [part if isinstance(part, str) else as_data([part])[0] for part in self.manifest.deliveries[self.name]]}
        return replace(
            self.row,
            image=result.data,
            format=result.format,
            width=result.width,
            height=result.height,
            bytes=len(result.data),
            sha256=hashlib.sha256(result.data).hexdigest(),
            measures={"delivery": {**facts, "seed": seed, "steps": list(result.steps)}},
        )


def seed_of(manifest: Manifest, delivery: str, image: str) -> int:
    """What an image's delivery is drawn from: the dataset's seed, the delivery's name and the image's id."""
    return derive_seed(manifest.seed, "delivery", delivery, image)


def delivering(clean: list[Row], manifest: Manifest, name: str, key: str) -> list[Delivering]:
    """The images among the rows of a clean shard."""
    return [Delivering(row, manifest, name, key) for row in clean if row.image is not None and row.role in ("real", "final")]
