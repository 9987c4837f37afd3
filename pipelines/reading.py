"""Training straight from a version of the store: rows as items of (image, label, subset, id), by split.

The room `ntf_model` takes any torch dataset of such items; this is the one that reads from Lance.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import lance
import numpy as np

from generators.errors import InputError
from pipelines.delivery.rows import MARK
from pipelines.images import decode, decode_stored
from pipelines.manifest.splits import SPLITS, Split
from pipelines.store import Store
from pipelines.store.schema import quoted
from pipelines.store.upgrade import read_rows, take_rows

REAL_ID = "real/"  # how the id of a real image begins
USABLE = "role IN ('final', 'real')"


def deliveries_of(store: Store, version: int | str | None = None) -> list[str]:
    """The deliveries that a version has images of, in order of their names."""
    rows = read_rows(store.dataset(version), ["delivery"], "role = 'delivered'")
    return sorted(set(rows.column("delivery").to_pylist()))


def usable(dataset: lance.LanceDataset, delivery: str = "") -> str:
    """The SQL condition for the images of a version that count: the clean ones, or those of a delivery. InputError if it has no such."""
    if not delivery:
        return USABLE
    condition = f"role = 'delivered' AND delivery = {quoted(delivery)}"
    if "delivery" not in dataset.schema.names or not dataset.count_rows(condition):
        raise InputError(f"the version has no images delivered as {delivery!r}", f"Make them: `ntf build MANIFEST --delivery {delivery}`")
    return condition


class StoredItem(NamedTuple):
    """`image` is `uint8` RGB `[H, W, 3]`; `label` 1 for a fake; `subset` names the subset of a fake, the real source of a
    real, or the subset of a real that was retouched."""

    image: np.ndarray
    label: int
    subset: str
    id: str


@dataclass(frozen=True)
class SplitTable:
    """The rows of one split without their images: where they lie in the version, and what they are. Arrays of length N, in order of id.

    `originals` has the id of the real image that a fake was made from: of the clean one, or of the one that was delivered as the fake was.
    It is empty for reals and for fakes that were made from noise or text.
    """

    ids: np.ndarray
    labels: np.ndarray
    subsets: np.ndarray
    addresses: np.ndarray
    digest: str
    originals: np.ndarray
    sha256s: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class VersionTable:
    """All splits of a version, the real sources that each subset of fakes is compared with, and the family of each subset."""

    splits: dict[Split, SplitTable]
    reals_of: dict[str, tuple[str, ...]]
    families: dict[str, str]


def read_table(
    store: Store, version: int | str | None = None, where: str | None = None, delivery: str = "", also: Sequence[str] = ()
) -> VersionTable:
    """The light columns of all usable rows of a version. `where` is a further SQL condition on the rows.

    They are the clean ones, or those of `delivery`; the images of the deliveries `also` come beside them. Raises InputError if the
    condition is no SQL or nothing is left.
    """
    columns = ["id", "label", "subset", "real", "family", "split", "sha256"]
    dataset = store.dataset(version)
    chosen = " OR ".join(f"({usable(dataset, name)})" for name in (delivery, *also))
    condition = f"({chosen}) AND ({where})" if where else chosen
    try:
        table = read_rows(dataset, columns, condition, row_ids=True)
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(
            f"the filter {where!r} cannot be used ({str(error).splitlines()[0]})", "It is SQL over the store's columns"
        ) from None
    if table.num_rows == 0:
        raise InputError(f"{store.name} has no images for {where or 'this version'}", "See `ntf store show`")
    data = {name: np.asarray(table.column(name).to_pylist()) for name in [*columns, "_rowid"]}
    data["original"] = np.asarray(_originals(dataset, data["id"].tolist(), data["label"].tolist()), dtype=object).astype(str)
    splits = {}
    for split in SPLITS:
        rows = np.flatnonzero(data["split"] == split)
        rows = rows[np.argsort(data["id"][rows])]
        listing = "\n".join(f"{data['id'][row]} {data['sha256'][row]} {data['label'][row]} {data['subset'][row]}" for row in rows)
        digest = hashlib.sha256(listing.encode()).hexdigest()
        splits[split] = SplitTable(
            data["id"][rows],
            data["label"][rows],
            data["subset"][rows],
            data["_rowid"][rows],
            digest,
            data["original"][rows],
            data["sha256"][rows],
        )
    fakes = data["label"] == 1
    pairs = sorted(set(zip(data["subset"][fakes].tolist(), data["real"][fakes].tolist(), strict=True)))
    on_real_side = sorted(set(zip(data["real"][~fakes].tolist(), data["subset"][~fakes].tolist(), strict=True)))  # retouched ones too
    reals_of: dict[str, tuple[str, ...]] = {}
    for subset, real in pairs:
        retouched = [name for source, name in on_real_side if source == real and name != real]
        reals_of[subset] = (*reals_of.get(subset, ()), real, *retouched)
    families = dict(zip(data["subset"][fakes].tolist(), data["family"][fakes].tolist(), strict=True))
    return VersionTable(splits, reals_of, families)


def _originals(dataset: lance.LanceDataset, ids: Sequence[str], labels: Sequence[int]) -> list[str]:
    """For each fake the id of the real image that its chain begins with; "" for what has none. Steps lead from a row to the one that it was
    made from, and from a delivered image to its clean one: the real of a delivered fake is the one of the same delivery."""
    above = read_rows(dataset, ["id", "target_id"], "target_id IS NOT NULL")
    made_from = dict(zip(above.column("id").to_pylist(), above.column("target_id").to_pylist(), strict=True))
    originals = []
    for name, label in zip(ids, labels, strict=True):
        clean, mark, delivery = name.partition(MARK)
        at, seen = clean, {clean}
        while at in made_from and not at.startswith(REAL_ID) and made_from[at] not in seen:
            at = made_from[at]
            seen.add(at)
        originals.append(f"{at}{mark}{delivery}" if label and at.startswith(REAL_ID) else "")
    return originals


def open_split(
    root: Path | str, name: str, split: Split = "train", version: int | str | None = None, where: str | None = None
) -> StoreDataset:
    """One split of the dataset `name` in the store `root`, as a torch dataset: its items are `StoredItem`, and torch's own collation makes
    batches of them. `version` is a number or a tag, the newest if None; `where` a SQL condition on the rows.

    Raises InputError if there is no such dataset, version or split, or nothing is left.
    """
    store = Store(root, name)
    table = read_table(store, version, where)
    if split not in table.splits:
        raise InputError(f"there is no split {split!r}", f"Known: {', '.join(SPLITS)}")
    if not len(table.splits[split]):
        raise InputError(f"the split {split!r} of {name} has no images for {where or 'this version'}", "See `ntf store show`")
    return StoreDataset(store, store.dataset(version).version, table.splits[split])


class MaskedItem(NamedTuple):
    """`image` is `uint8` RGB `[H, W, 3]`, `mask` bool `[H, W]`: true where the image was reworked. `known` is false where the store has no
    mask for a fake; its mask is then true everywhere. That of a real image is false everywhere."""

    image: np.ndarray
    mask: np.ndarray
    known: bool
    label: int
    subset: str
    id: str


class StoreDataset:
    """A torch map-style dataset over one split of a version: `dataset[i]` reads and decodes row i of `table`.

    Lance is not fork-safe: the dataset is opened anew in every process and thread that reads, and pickles as its location, so that
    DataLoader workers must be spawned (`multiprocessing_context="spawn"`).
    """

    def __init__(self, store: Store, version: int, table: SplitTable):
        self._uri = store.uri
        self._version = version
        self._table = table
        self._local = threading.local()

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> StoredItem:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[StoredItem]:
        """A batch in one read, in the order of `indices`. torch's DataLoader calls this where it can."""
        rows = [int(self._table.addresses[index]) for index in indices]
        images = take_rows(self._dataset(), rows, ["image"]).column("image").to_pylist()
        return [self._item(index, data) for index, data in zip(indices, images, strict=True)]

    def _item(self, index: int, data: bytes) -> StoredItem:
        name = str(self._table.ids[index])
        return StoredItem(decode_stored(data, name), int(self._table.labels[index]), str(self._table.subsets[index]), name)

    def _dataset(self) -> lance.LanceDataset:
        if not hasattr(self._local, "dataset"):
            self._local.dataset = lance.dataset(self._uri, version=self._version)
        return self._local.dataset

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()


class MaskDataset(StoreDataset):
    """The same rows with their masks, for training and evaluating what localises forgeries: `dataset[i]` is a `MaskedItem`."""

    def __getitem__(self, index: int) -> MaskedItem:  # type: ignore[override]
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[MaskedItem]:  # type: ignore[override]
        rows = [int(self._table.addresses[index]) for index in indices]
        stored = take_rows(self._dataset(), rows, ["image", "mask"]).to_pylist()
        return [self._masked(self._item(index, row["image"]), row["mask"]) for index, row in zip(indices, stored, strict=True)]

    def _masked(self, item: StoredItem, mask: bytes | None) -> MaskedItem:
        everywhere = np.full(item.image.shape[:2], bool(item.label))
        pixels = everywhere if mask is None or not item.label else decode(mask, f"the mask of {item.id}")[..., 0] > 127
        return MaskedItem(item.image, pixels, mask is not None or not item.label, item.label, item.subset, item.id)


def open_splits(
    store: Store, version: int | str | None = None, where: str | None = None, masks: bool = False
) -> dict[Split, StoreDataset] | dict[Split, MaskDataset]:
    """The splits of a version as datasets for torch's DataLoader; with `masks` their items are `MaskedItem`s. Errors as `read_table`."""
    number = store.version(version).number
    tables = read_table(store, number, where).splits
    return {split: (MaskDataset if masks else StoreDataset)(store, number, table) for split, table in tables.items()}
