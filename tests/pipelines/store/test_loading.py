"""Training from a version: every row once, in a seeded order, over ranks, and on from where it stopped."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from generators.errors import InputError
from pipelines.images import decode
from pipelines.loading import EpochSampler, read_batches
from pipelines.reading import StoreDataset, StoredItem, read_table
from pipelines.store import Store


def dataset_of(store: Store, where: str | None = None) -> StoreDataset:
    return StoreDataset(store, store.dataset().version, read_table(store, None, where).splits["train"])


def name(item: StoredItem) -> str:
    return item.id


def first(items: list[StoredItem]) -> StoredItem:
    return items[0]


@given(length=st.integers(1, 300), world=st.integers(1, 7), seed=st.integers(0, 2**40), stop=st.integers(0, 300))
def test_ranks_share_an_epoch_and_a_stop_changes_nothing(length: int, world: int, seed: int, stop: int) -> None:
    if length < world:
        with pytest.raises(InputError):
            EpochSampler(length, seed, 0, world)
        return
    ranks = [list(EpochSampler(length, seed, rank, world)) for rank in range(world)]
    rows = [row for rank in ranks for row in rank]
    assert len(rows) == len(set(rows)) == length // world * world and set(rows) <= set(range(length))
    stopped = EpochSampler(length, seed, 0, world)
    stop = min(stop, len(ranks[0]) - 1)
    seen = list(islice(stopped, stop))
    stopped.advance(stop)
    resumed = EpochSampler(length, seed, 0, world)
    resumed.load_state_dict(stopped.state_dict())
    assert seen + list(resumed) == ranks[0]


def test_epochs_differ_and_repeat_with_the_seed() -> None:
    sampler, same = EpochSampler(100, 3), EpochSampler(100, 3)
    before = list(sampler)
    sampler.advance(100)
    assert (sampler.epoch, sampler.position) == (1, 0)
    assert list(sampler) != before == list(same) != list(EpochSampler(100, 4))
    moved = np.mean(np.abs(np.array(before) - np.arange(100)))
    assert moved > 20  # rows leave their neighbourhood: a shuffle within fragments would not do that
    with pytest.raises(InputError, match="has length 100"):
        EpochSampler(99, 3).load_state_dict(sampler.state_dict())


def test_batches_read_ahead_hold_every_row_once_and_resume(store: Store) -> None:
    dataset = dataset_of(store)
    whole = [each for batch in read_batches(dataset, EpochSampler(len(dataset), 1), 3, name, drop_last=False) for each in batch]
    assert Counter(whole) == Counter(str(each) for each in dataset._table.ids)
    sampler = EpochSampler(len(dataset), 1)
    reading = read_batches(dataset, sampler, 3, name)
    seen = [each for batch in islice(reading, 2) for each in batch]
    state = sampler.state_dict()
    reading.close()
    resumed = EpochSampler(len(dataset), 1)
    resumed.load_state_dict(state)
    assert seen + [each for batch in read_batches(dataset, resumed, 3, name, drop_last=False) for each in batch] == whole


def test_a_filter_is_sql_and_images_are_those_of_the_rows(store: Store) -> None:
    dataset = dataset_of(store, "subset = 'Chained' OR label = 0")
    stored = {row.id: row for row in store.rows(images=True)}
    items = dataset.__getitems__(list(range(len(dataset))))
    assert {item.subset for item in items} == {"Chained", "people"} and {stored[item.id].split for item in items} == {"train"}
    for item in items:
        assert np.array_equal(item.image, decode(stored[item.id].image or b"", item.id))
    with pytest.raises(InputError, match="cannot be used"):
        dataset_of(store, "subset == = 1")


@pytest.mark.slow
def test_spawned_workers_read_too(store: Store) -> None:
    dataset = dataset_of(store)
    sampler = EpochSampler(len(dataset), 5)
    loader = DataLoader(dataset, sampler=sampler, num_workers=1, multiprocessing_context="spawn", collate_fn=first)
    assert [item.id for item in loader] == [str(dataset._table.ids[row]) for row in sampler]
