"""Splits are decided by group, and nothing else moves them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipelines.manifest.schema import Splits
from pipelines.manifest.splits import split_of


@given(st.text(max_size=40), st.integers(0, 10))
def test_a_group_is_always_in_the_same_split(group: str, seed: int) -> None:
    assert split_of(group, Splits(seed=seed)) == split_of(group, Splits(seed=seed))


@given(st.floats(0.1, 0.7), st.floats(0.1, 0.25))
def test_shares_come_out_as_asked(train: float, validation: float) -> None:
    splits = Splits(train=train, validation=validation)
    counts = Counter(split_of(f"person {number}", splits) for number in range(2000))
    assert abs(counts["train"] / 2000 - train) < 0.05
    assert abs(counts["validation"] / 2000 - validation) < 0.05


@given(st.text(max_size=20), st.floats(0.3, 0.5), st.floats(0.01, 0.2))
def test_a_larger_training_share_takes_no_group_out_of_training(group: str, train: float, more: float) -> None:
    if split_of(group, Splits(train=train)) == "train":
        assert split_of(group, Splits(train=train + more)) == "train"


def test_another_seed_is_another_division() -> None:
    names = [f"person {number}" for number in range(200)]
    first, second = ([split_of(name, Splits(seed=seed)) for name in names] for seed in (0, 1))
    assert sum(a != b for a, b in zip(first, second, strict=True)) > 20
