"""Near-duplicates across splits are found, all of them, and dropped on request."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.similar import similar_images
from generators.errors import InputError
from pipelines.examine import duplicates, similar
from pipelines.examine.duplicates import drop_duplicates, find_duplicates
from pipelines.examine.similar import near_hashes, near_vectors
from pipelines.images import encode
from pipelines.manifest.schema import Codec
from pipelines.store import Row, Store

SPLITS = ("train", "validation", "test")


def row(number: int, split: str, phash: int) -> Row:
    return Row(
        f"real/x/{number}", "real", 0, "x", "x", "real", "real", number, split, str(number), "k", "CC0",
        phash=f"{phash:016x}", sha256=str(number), image=b"",
    )  # fmt: skip


@pytest.fixture
def hashed(tmp_path: Path) -> tuple[Store, list[Row]]:
    """300 images, each fifth of which is a few bits away from another."""
    chance = random.Random(1)
    rows: list[Row] = []
    for number in range(300):
        value = chance.getrandbits(64)
        if number % 5 == 4:
            value = int(rows[chance.randrange(number)].phash or "0", 16)
            for bit in chance.sample(range(64), chance.randrange(9)):
                value ^= 1 << bit
        rows.append(row(number, chance.choice(SPLITS), value))
    store = Store(tmp_path / "hashed", "hashed")
    store.write_shard("k", "k", rows)
    store.commit(["k"], "run")
    return store, rows


@pytest.mark.parametrize("distance", [0, 2, 6])
def test_every_pair_is_found(hashed: tuple[Store, list[Row]], distance: int) -> None:
    store, rows = hashed
    wanted = {
        frozenset((image.id, other.id))
        for image in rows
        for other in rows
        if image.split != other.split and (int(image.phash or "", 16) ^ int(other.phash or "", 16)).bit_count() <= distance
    }
    pairs = find_duplicates(store, distance=distance)
    assert {frozenset((pair.first, pair.second)) for pair in pairs} == wanted and (wanted or not distance)
    assert all(SPLITS.index(pair.first_split) < SPLITS.index(pair.second_split) for pair in pairs)


def test_dropping_leaves_no_pair_and_the_whole_test_split(hashed: tuple[Store, list[Row]], monkeypatch: pytest.MonkeyPatch) -> None:
    store, rows = hashed
    tested = {image.id for image in rows if image.split == "test"}
    with pytest.raises(InputError, match="more than 3 pairs"), monkeypatch.context() as patch:
        patch.setattr(duplicates, "MAX_PAIRS", 3)
        find_duplicates(store)
    version, gone = drop_duplicates(store)
    assert version and gone and not find_duplicates(store)
    assert {image.id for image in store.rows()} == {image.id for image in rows} - set(gone) >= tested
    assert drop_duplicates(store) == (None, [])


@pytest.mark.parametrize("distance", [0, 1, 4, 9])
def test_the_index_finds_what_all_pairs_find(distance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some bands agree where others do not, and a bucket holds more than one chunk."""
    monkeypatch.setattr(similar, "CHUNK", 16)
    chance = np.random.default_rng(0)
    values = chance.integers(0, 2**63, 40, dtype=np.uint64)
    near = np.concatenate([values ^ (np.uint64(1) << np.uint64(bit)) for bit in range(0, 64, 3)])
    two = near ^ (np.uint64(1) << chance.integers(0, 64, len(near), dtype=np.uint64))
    crowd = np.arange(100, dtype=np.uint64) << np.uint64(40)  # alike but for one band
    hashes = np.unique(np.concatenate([values, near, two, crowd]))
    different = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    rows, columns = np.nonzero(np.triu(different <= distance, 1))
    wanted = {(left, right): int(different[left, right]) for left, right in zip(rows.tolist(), columns.tolist(), strict=True)}
    found = list(near_hashes(hashes, distance))
    assert {(left, right): bits for left, right, bits in found} == wanted
    assert len(found) == len(wanted), "each pair once"


def test_the_index_does_not_compare_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    count = np.bitwise_count

    def counting(difference: np.ndarray) -> np.ndarray:
        compared.append(difference.size)
        return count(difference)

    hashes = np.unique(np.random.default_rng(1).integers(0, 2**63, 20_000, dtype=np.uint64))
    monkeypatch.setattr(np, "bitwise_count", counting)
    assert list(near_hashes(hashes, 4)) == []
    assert 0 < sum(compared) < len(hashes) ** 2 / 50


def test_vectors_that_point_the_same_way_are_found() -> None:
    chance = np.random.default_rng(2)
    vectors = chance.normal(size=(600, 64))
    close = vectors[:200] + 0.25 * chance.normal(size=(200, 64))  # cosines about 0.97
    both = np.concatenate([vectors, close * 3, np.zeros((2, 64))])
    units = both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-12)
    rows, columns = np.nonzero(np.triu(units @ units.T >= 0.95, 1))
    wanted = set(zip(rows.tolist(), columns.tolist(), strict=True))
    found = {(left, right): cosine for left, right, cosine in near_vectors(both, 0.95)}
    assert len(wanted) > 150 and found.keys() <= wanted
    assert len(found) >= 0.99 * len(wanted)
    assert all(cosine == pytest.approx(units[left] @ units[right]) for (left, right), cosine in found.items())


def test_pairs_across_subsets_leave_out_what_was_made_from_each_other(tmp_path: Path) -> None:
    def image(number: int, subset: str, split: str, phash: int, target: str | None = None) -> Row:
        made = row(number, split, phash)
        name = f"real/{subset}/{number}" if target is None else f"{subset}/x/{number}"
        return replace(made, id=name, subset=subset, role="real" if target is None else "final", target_id=target)

    rows = [
        image(0, "x", "train", 0b1),
        image(1, "x", "train", 0b11),
        image(2, "A", "train", 0b1, target="real/x/0"),  # the reconstruction of the first
        image(3, "B", "test", 0b1, target="real/x/0"),  # another one
        image(4, "A", "train", 0b111, target=""),  # from noise
    ]
    store = Store(tmp_path / "s", "s")
    store.write_shard("k", "k", rows)
    store.commit(["k"], "run")

    def pairs(among: Any) -> set[frozenset[int]]:
        return {frozenset((int(pair.first[-1]), int(pair.second[-1]))) for pair in find_duplicates(store, distance=4, among=among)}

    assert pairs("splits") == {frozenset((1, 3)), frozenset((3, 4))}
    assert pairs("subsets") == {frozenset(pair) for pair in [(0, 4), (1, 2), (1, 3), (1, 4), (3, 4)]}
    assert pairs("all") == pairs("subsets") | {frozenset((0, 1)), frozenset((2, 4))}


def test_by_features(tmp_path: Path) -> None:
    """A network that averages each channel: two pictures of one colour are alike, whatever else is in them."""
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, None, None])]
    graph = helper.make_graph([node], "mean", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "mean.onnx")
    colours = {0: (200, 10, 10), 1: (202, 12, 10), 2: (10, 10, 200)}
    rows = [
        replace(row(number, "train" if number else "test", number), image=encode(np.full((8, 8, 3), colour, np.uint8), Codec()))
        for number, colour in colours.items()
    ]
    store = Store(tmp_path / "s", "s")
    store.write_shard("k", "k", rows)
    store.commit(["k"], "run")
    pairs = similar_images(store, tmp_path / "mean.onnx", similarity=0.99)
    assert [(pair.first[-1], pair.second[-1]) for pair in pairs] == [("1", "0")]
    assert pairs[0].similarity is not None and pairs[0].similarity > 0.99
