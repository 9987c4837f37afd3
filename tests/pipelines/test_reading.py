"""Rows of a version as items to train on: the rows that were asked for, with their own images, in any process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from generators.errors import InputError
from ntf_model.data.data import DetectionData
from ntf_model.data.loader import read_batches
from ntf_model.data.sampling import BalancedBatches, Draw
from pipelines.build.build import run_build
from pipelines.images import decode
from pipelines.reading import StoreDataset, StoredItem, open_split, read_table
from pipelines.store import Store
from tests.pipelines.store.fakes import fake_dataset, fake_generators, planned


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder: Path = tmp_path_factory.mktemp("reading")
    with fake_generators(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("NTF_CACHE", str(folder / "cache"))
        store = Store(folder / "store", "fake")
        run_build(planned(fake_dataset(folder / "data")), store, "cpu")
        yield store


def dataset_of(store: Store, where: str | None = None) -> StoreDataset:
    return StoreDataset(store, store.dataset().version, read_table(store, None, where).splits["train"])


def first(items: list[StoredItem]) -> StoredItem:
    return items[0]


def test_a_filter_is_sql_and_images_are_those_of_the_rows(store: Store) -> None:
    dataset = dataset_of(store, "subset = 'Chained' OR label = 0")
    stored = {row.id: row for row in store.rows(images=True)}
    items = dataset.__getitems__(list(range(len(dataset))))
    assert {item.subset for item in items} == {"Chained", "people"} and {stored[item.id].split for item in items} == {"train"}
    for item in items:
        assert np.array_equal(item.image, decode(stored[item.id].image or b"", item.id))
    with pytest.raises(InputError, match="cannot be used"):
        dataset_of(store, "subset == = 1")
    with pytest.raises(InputError, match="no images"):
        dataset_of(store, "subset = 'nothing'")


def test_every_fake_has_the_real_sources_that_it_is_compared_with(store: Store) -> None:
    table = read_table(store)
    assert table.reals_of == {name: ("people",) for name in ("Sampled", "Swapped", "Chained")}
    assert table.families == {"Sampled": "GAN", "Swapped": "DM", "Chained": "multi-step"}
    rows = {row.id: row for row in store.rows("role IN ('final', 'real')")}
    assert {name for split in table.splits.values() for name in split.ids} == rows.keys()


def test_the_reader_of_training_takes_it(store: Store) -> None:
    table = read_table(store)
    split = table.splits["train"]
    dataset = StoreDataset(store, store.dataset().version, split)
    data = DetectionData(dataset, split.labels, split.subsets, table.reals_of, table.families, split.digest, split.ids)  # type: ignore[arg-type]
    batches = list(BalancedBatches(data, 4, seed=0, epoch=0))

    class Items:
        def batch(self, draws: list[Draw]) -> list[StoredItem]:
            return dataset.__getitems__([draw.row for draw in draws])

    read = list(read_batches(Items(), batches, threads=2))  # type: ignore[arg-type]
    assert [[item.id for item in batch] for batch in read] == [[split.ids[draw.row] for draw in draws] for draws in batches]


@pytest.mark.slow
def test_spawned_workers_read_too(store: Store) -> None:
    dataset = dataset_of(store)
    loader = DataLoader(dataset, num_workers=1, multiprocessing_context="spawn", collate_fn=first)
    assert [item.id for item in loader] == dataset._table.ids.tolist()


def test_a_fake_knows_the_real_that_it_was_made_from_in_its_own_split(store: Store) -> None:
    rows = {row.id: row for row in store.rows()}
    with_real = 0
    for name, split in read_table(store).splits.items():
        for picture, label, original in zip(split.ids.tolist(), split.labels.tolist(), split.originals.tolist(), strict=True):
            target = rows[picture].chain[0].get("target") if label else None
            assert original == (target or "")
            if original:
                with_real += 1
                assert original in split.ids, f"{picture} of {name} and its real are in one split"
    assert with_real == sum(row.role == "final" and row.subset == "Swapped" for row in rows.values()) > 0


def test_a_split_is_a_torch_dataset_in_three_lines(store: Store) -> None:
    dataset = open_split(store.root.location, "fake", "train")
    batches = list(DataLoader(dataset, batch_size=4))
    assert batches[0].image.shape == (4, 16, 16, 3)
    assert sum(len(batch.label) for batch in batches) == len(dataset)
    expected = dataset_of(store)
    assert [name for batch in batches for name in batch.id] == [expected[row].id for row in range(len(expected))]
    assert (batches[0].image[1].numpy() == expected[1].image).all()
    assert set(open_split(store.root.location, "fake", "test", store.version().number, "label = 1")._table.labels.tolist()) == {1}
    with pytest.raises(InputError, match="there is no split 'dev'"):
        open_split(store.root.location, "fake", "dev")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no images"):
        open_split(store.root.location, "fake", "test", where="subset = 'nothing'")
    with pytest.raises(InputError):
        open_split(store.root.location, "missing")
