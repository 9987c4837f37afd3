"""The digest tells content, not how the rows came to lie where they are."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.plan.keys import key_of
from pipelines.store import Row, Store
from pipelines.store.digest import Digest
from pipelines.store.schema import LIGHT_COLUMNS, from_table, to_table

words = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words
facts = st.dictionaries(words, plain, max_size=2)
patient = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    return [
        Row(
            id=f"{number}/{draw(words)}",
            role=draw(st.sampled_from(["final", "real", "rejected"])),
            label=draw(st.integers(0, 1)),
            subset=draw(words),
            real="real",
            family="GAN",
            mode="GAN",
            index=number,
            split="train",
            group="group",
            shard_key="key",
            licence=draw(words),
            seed=draw(st.none() | st.integers(0, 2**63 - 1)),
            chain=draw(st.lists(facts, max_size=2)),
            measures=draw(facts),
            identity=draw(st.none() | words),
            image=draw(st.none() | st.binary(max_size=20)),
        )
        for number in range(draw(st.integers(1, 6)))
    ]


def digest_of(rows: list[Row]) -> str:
    return Digest().add(to_table(rows).select(LIGHT_COLUMNS).to_batches()).hex()


@patient
@given(rows=tables(), data=st.data())
def test_order_and_batches_do_not_matter_and_everything_else_does(rows: list[Row], data: st.DataObject) -> None:
    whole = digest_of(rows)
    assert digest_of(data.draw(st.permutations(rows))) == whole
    cut = data.draw(st.integers(0, len(rows)))
    halves = Digest()
    for half in (rows[cut:], rows[:cut]):
        halves.add(to_table(half).select(LIGHT_COLUMNS).to_batches())
    assert halves.hex() == whole
    victim = data.draw(st.integers(0, len(rows) - 1))
    changed = replace(rows[victim], identity=(rows[victim].identity or "") + "x")
    assert digest_of([*rows[:victim], changed, *rows[victim + 1 :]]) != whole
    assert digest_of([*rows, rows[victim]]) != whole and digest_of(rows[1:]) != whole


@patient
@given(rows=tables())
def test_rows_come_out_of_a_table_as_they_went_in(rows: list[Row]) -> None:
    assert from_table(to_table(rows)) == rows


@settings(patient, max_examples=8)
@given(rows=tables(), data=st.data())
def test_fragments_do_not_matter(rows: list[Row], data: st.DataObject) -> None:
    cuts = sorted({0, len(rows), *data.draw(st.lists(st.integers(0, len(rows)), max_size=3))})
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, "cut")
        keys = []
        for number, (start, stop) in enumerate(pairwise(cuts)):
            keys.append(f"key{number}")
            store.write_shard(keys[-1], "", [replace(row, shard_key="key") for row in rows[start:stop]])
        # The shard key of a row is part of the digest; here all rows have one, so that only the layout differs.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "keys", lambda version=None: {})
            version = store.commit(keys, "run")
        assert version and version.digest == store.digest() == digest_of(rows)


@patient
@given(ingredients=st.dictionaries(words, plain, min_size=1, max_size=5), data=st.data())
def test_a_key_depends_on_every_ingredient_and_not_on_their_order(ingredients: dict[str, object], data: st.DataObject) -> None:
    names = data.draw(st.permutations(sorted(ingredients)))
    assert key_of({name: ingredients[name] for name in names}) == key_of(ingredients)
    changed = data.draw(st.sampled_from(names))
    if changed != "recipe":
        assert key_of({**ingredients, changed: [ingredients[changed]]}) != key_of(ingredients)
    assert key_of({**ingredients, "\u0000one more": 1}) != key_of(ingredients)
