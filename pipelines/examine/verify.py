"""Is a version what it says? Its rows are read back, and some of its images are made again from what is recorded about them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, get_args

import lance
import numpy as np
import pyarrow as pa

from generators.errors import InputError
from pipelines.examine.lineage import changes
from pipelines.images import decode, encode
from pipelines.make.make import Maker
from pipelines.make.models import Models, pick_device
from pipelines.manifest.schema import Manifest
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.shards import INTERMEDIATE_CODEC
from pipelines.store import Row, Store
from pipelines.store.damage import fault_of
from pipelines.store.digest import Digest
from pipelines.store.schema import LIGHT_COLUMNS
from pipelines.store.upgrade import read_batches

BATCH_IMAGES = 64
DECODING_THREADS = 4
COLUMNS = ["id", "sha256", "width", "height", "role", "image", "mask", "mask_sha256"]

Outcome = Literal["bit-exact", "within one grey level", "different", "not possible here"]
CLOSEST_FIRST = get_args(Outcome)


@dataclass(frozen=True)
class Damage:
    """One damaged thing: what is wrong, the data file that it is in, and the shard (subset and step, images `start` to `stop`). A manifest
    has no shard and no data file."""

    what: str
    file: str = ""
    shard: str = ""

    def __str__(self) -> str:
        return f"{self.what} (shard {self.shard})" if self.shard else self.what


@dataclass(frozen=True)
class Verification:
    """What `verify` found in a version. `rows` and `images` were read back, and `digest` says whether they have the recorded one.

    `damaged` has a line for everything that cannot be read or is not what its row says, in this version or in the manifests of the others.
    `remade` has the outcome for each image that was made again, by id, and `why` the reason for those that differ or could not be made.
    """

    version: int
    rows: int
    images: int
    digest: bool
    damaged: list[str]
    remade: dict[str, Outcome]
    why: dict[str, str]

    @property
    def passed(self) -> bool:
        return self.digest and not self.damaged and "different" not in self.remade.values()


@dataclass(frozen=True)
class ReadBack:
    """A version read back: its rows and images, whether they have the recorded digest, and what is damaged."""

    rows: int
    images: int
    digest: bool
    damaged: list[Damage]


def verify(
    store: Store,
    version: int | str | None = None,
    sample: int = 0,
    device: str = "auto",
    on_images: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Reads every row of a version back (sha256, decodability, size, digest), and makes `sample` of its fakes again.

    Takes memory by the batch, not by the version. `on_images(done, total)` is called as reading goes on.
    """
    dataset = store.dataset(version)
    back = read_back(store, dataset, on_images)
    damaged = [*map(str, damaged_manifests(store)), *map(str, back.damaged)]
    outcomes = _make_again(store, dataset.version, sample, device) if sample and not back.damaged else {}
    remade = {name: outcome for name, (outcome, _) in outcomes.items()}
    why = {name: reason for name, (_, reason) in outcomes.items() if reason}
    return Verification(dataset.version, back.rows, back.images, back.digest, damaged, remade, why)


def damaged_manifests(store: Store) -> list[Damage]:
    """The versions of a store that are lost, cannot be read, or whose manifest is not the one that was written."""
    lines = [f"version {number} is lost: its manifest is not there" for number in store.manifests.lost()]
    for number in store.manifests.numbers():
        record, fault = store.records.get(number), store.manifests.fault(number)
        if fault:
            lines.append(fault)
        elif record and record.manifest and store.records.manifest_sha256(number) != record.manifest:
            lines.append(f"the manifest of version {number} of {store.name} is not the one that was written: its sha256 differs")
    return [Damage(line) for line in lines]


def read_back(store: Store, dataset: lance.LanceDataset, on_images: Callable[[int, int], None] = lambda done, total: None) -> ReadBack:
    """Reads a version: each image against its sha256 and size, and each data file's rows against the sum that is recorded of them."""
    rows, images, damaged = 0, 0, list[Damage]()
    sizes, sums, titles, total = store.data.sizes(), store.records.sums(), store.records.titles(), Digest()
    everything = sum(fragment.physical_rows for fragment in dataset.get_fragments())
    with ThreadPoolExecutor(DECODING_THREADS) as threads:
        for fragment in dataset.get_fragments():
            file = fragment.metadata.files[0].path
            title = titles.get(file) or _shard(fragment)
            fault = fault_of(fragment, sizes)
            if fault:
                damaged.append(Damage(f"{fault}. Its {fragment.physical_rows} rows cannot be read", file, title))
                continue
            try:
                lines = list[str]()
                for batch in read_batches(fragment, COLUMNS, batch_size=BATCH_IMAGES):
                    lines += [line for line in threads.map(_problem, *_columns(batch)) if line]
                    rows += batch.num_rows
                    images += batch.num_rows - batch.column("image").null_count
                    on_images(rows, everything)
                part = Digest().add(read_batches(fragment, LIGHT_COLUMNS))
            except InputError as error:
                damaged.append(Damage(error.message, file, title))
                continue
            total.take(part.text)
            if not lines and sums.get(file, part.text) != part.text:
                lines.append(f"the rows in the data file {file} are not those that were written: their digest differs")
            damaged += [Damage(line, file, title) for line in lines]
    recorded = store.version(dataset.version).digest
    digest = not damaged and total.hex() == recorded
    if not damaged and not digest:
        damaged.append(Damage(f"the rows of version {dataset.version} do not have the digest that was recorded with it"))
    return ReadBack(rows, images, digest, damaged)


def _shard(fragment: lance.LanceFragment) -> str:
    """Which shard a data file holds, as far as it can still be read: `Swapped step 1, images 0 to 3`."""
    try:
        (batch,) = list(read_batches(fragment, ["subset", "role", "step", "index"], batch_size=2**20)) or [None]
    except (InputError, ValueError):
        return ""
    if batch is None or not batch.num_rows:
        return ""
    numbers = [number for number in batch.column("index").to_pylist() if number is not None]
    first = batch.slice(0, 1).to_pylist()[0]
    title = f"reals {first['subset']}" if first["role"] == "real" else f"{first['subset']} step {max(batch.column('step').to_pylist()) + 1}"
    return f"{title}, images {min(numbers)} to {max(numbers)}" if numbers else title


def _columns(batch: pa.RecordBatch) -> Iterator[list[object]]:
    return (batch.column(name).to_pylist() for name in COLUMNS)


def _problem(
    name: str,
    sha256: str | None,
    width: int | None,
    height: int | None,
    role: str,
    image: bytes | None,
    mask: bytes | None,
    mask_sha256: str | None,
) -> str | None:
    if image is None:
        return None if role == "rejected" else f"{name} has no image"
    if hashlib.sha256(image).hexdigest() != sha256:
        return f"{name} is not the image that was stored: its sha256 differs"
    if mask_sha256 is not None and hashlib.sha256(mask or b"").hexdigest() != mask_sha256:
        return f"the mask of {name} is not the one that was stored: its sha256 differs"
    try:
        pixels = decode(image, name)
    except InputError as error:
        return str(error)
    return None if pixels.shape[:2] == (height, width) else f"{name} is {pixels.shape[1]} x {pixels.shape[0]} px, not {width} x {height}"


def _make_again(store: Store, version: int, sample: int, device: str) -> dict[str, tuple[Outcome, str]]:
    """The outcome for each remade image by id, with the reason.

    They are sampled by the hash of their ids: the same images for the same version, evenly over all subsets of fakes. Delivered images,
    of reals too, are among them.
    """
    finals = store.scan(["id"], "role IN ('final', 'delivered')", version)
    ids = [name for batch in finals for name in batch.column("id").to_pylist()]
    chosen = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).digest())[:sample]
    plan = _plan_of(store, version)
    maker = Maker(plan, store, Models(plan.catalogue, pick_device(device)))
    rows = [store.row(name, version, image=True) for name in sorted(chosen)]
    return {row.id: _delivered_outcome(maker, store, row) if row.role == "delivered" else _outcome(plan, maker, row) for row in rows}


def _plan_of(store: Store, version: int) -> Plan:
    return make_plan(Manifest.model_validate(store.version(version).manifest))


def _delivered_outcome(maker: Maker, store: Store, row: Row) -> tuple[Outcome, str]:
    """A delivered image against the same made again of the stored clean one: the bytes must be the same."""
    try:
        again = maker.redeliver(row, store.row(row.target_id or "", image=True))
    except (InputError, KeyError) as error:
        return "not possible here", str(error)
    if again.measures != row.measures:
        return "not possible here", f"the recipe of {row.delivery} is another one now"
    return ("bit-exact", "") if again.sha256 == row.sha256 else ("different", "its bytes differ")


def _outcome(plan: Plan, maker: Maker, row: Row) -> tuple[Outcome, str]:
    """One image against the same made again.

    A batch is as large as its row records. Where it records none, the image is made alone. If that gives other bytes, it is made once more
    in batches as large as those of its shard were: a step on an image that was rounded in another way can enlarge the difference.
    """
    alone = _compared(plan, maker, row, alone=True)
    if alone[0] in ("bit-exact", "not possible here"):
        return alone
    return min(alone, _compared(plan, maker, row, alone=False), key=lambda outcome: CLOSEST_FIRST.index(outcome[0]))


def _compared(plan: Plan, maker: Maker, row: Row, alone: bool) -> tuple[Outcome, str]:
    try:
        again = maker.remake(row, alone)
    except (InputError, KeyError, IndexError) as error:
        return "not possible here", str(error)
    difference = changes(row.chain[: len(again.row.chain)], again.row.chain)
    if again.pixels is None:  # a rejection does not record what it was made from
        difference = tuple(change for change in difference if change.kind not in ("source images", "prompt"))
    if difference:
        return "not possible here", "; ".join(map(str, difference))
    if again.pixels is None:
        return "different", f"rejected now: {again.row.reason}"
    assert row.image is not None
    codec = INTERMEDIATE_CODEC if row.role == "intermediate" else plan.manifest.codec
    stored, remade = decode(row.image, row.id), decode(encode(again.pixels, codec), row.id)
    if stored.shape != remade.shape:
        return "different", f"{remade.shape[1]} x {remade.shape[0]} px now"
    furthest = int(np.abs(stored.astype(np.int16) - remade).max())
    if furthest == 0:
        return "bit-exact", ""
    return ("within one grey level", "") if furthest == 1 else ("different", f"by up to {furthest} grey levels")
