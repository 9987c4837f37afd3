"""What is found out for many images at once is what one by one would give, and keys are those of earlier releases."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from generators.seeding import SEED_BITS, derive_seed, derive_seeds
from pipelines.manifest.chains import ChainStep
from pipelines.manifest.schema import Splits
from pipelines.manifest.splits import SPLITS, Split, SplitList, split_of, splits_of
from pipelines.plan.pairs import Pairing, first_draws, person
from pipelines.plan.reals import RealPool
from tests.pipelines.plan.test_pairs import pool
from tests.pipelines.store.fakes import fake_dataset, fake_generators, planned, write

WANTED: list[Split] = [SPLITS[number * number % 3] for number in range(60)]


@pytest.mark.parametrize("before", [(), (7,), ("split", 0), (-3, "ü\x1f", 2**70)])
@pytest.mark.parametrize("after", [(), (0,), ("source",), (4, "")])
def test_seeds_of_many_are_those_of_each(before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    indices = [0, 1, 999_999, 1_000_000, -5, 2**80]
    assert derive_seeds(before, indices, after).tolist() == [derive_seed(*before, index, *after) for index in indices]
    assert derive_seeds(before, [], after).tolist() == []


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 2345])
def test_splits_of_many_are_those_of_each(count: int) -> None:
    for splits in (Splits(), Splits(seed=3, train=0.4, validation=0.3), Splits(train=0.1, validation=0.1)):
        many = splits_of("Süb/people+2/", count, splits)
        assert list(many) == [split_of(f"Süb/people+2/{index:06d}", splits) for index in range(count)]
        assert len(many) == count and all(many.count(split) == list(many).count(split) for split in SPLITS)
        assert list(many.part(1, count)) == many[1:count] == list(many)[1:]
        assert list(pickle.loads(pickle.dumps(many))) == list(many)


def test_splits_of_a_million_and_more_have_names_of_seven_digits() -> None:
    many = splits_of("S/r/", 1_000_050, Splits())
    assert many[999_990:] == [split_of(f"S/r/{index:06d}", Splits()) for index in range(999_990, 1_000_050)]


def test_a_seed_at_the_border_falls_where_its_position_does(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = Splits(train=0.7, validation=0.2)
    border = int(0.7 * 2**SEED_BITS)
    seeds = [border + step for step in range(-2000, 2001, 100)]
    assert len({seed / 2**SEED_BITS < 0.7 for seed in seeds}) == 2
    monkeypatch.setattr("pipelines.manifest.splits.seeds_of", lambda texts: np.array(seeds, np.uint64))
    numbers = splits_of("x", len(seeds), splits).numbers.tolist()
    assert numbers == [0 if seed / 2**SEED_BITS < 0.7 else 1 for seed in seeds]


@pytest.mark.parametrize("people", [3, 40])
@pytest.mark.parametrize("short", [False, True], ids=["hashes", "places that are no numbers"])
def test_first_draws_of_many_are_those_of_each(people: int, short: bool) -> None:
    whole = pool("p", people)
    images = tuple(sorted((_renamed(image) for image in whole.images), key=lambda image: image.sha256)) if short else whole.images
    pools = {"p": RealPool("p", "x", images, len(images))}

    def chain() -> list[Pairing]:
        steps: list[dict[str, Any]] = [{}, {"source": "p"}, {"source": "p"}]
        return [Pairing(_step(**step), position, 7, WANTED, pools) for position, step in enumerate(steps)]

    many, one_by_one = first_draws(chain(), 5, 55), chain()
    for index, drawn in zip(range(5, 55), many, strict=True):
        seen: set[str] = set()
        for pairing in one_by_one:
            expected = pairing.draw(index, 0, seen)
            seen |= {person(image) for image in expected.values()}
        assert drawn == expected and drawn["source"].split == WANTED[index]


def test_a_list_of_splits_stays_one() -> None:
    many = SplitList.of(WANTED)
    assert list(many) == WANTED and SplitList.of(many) is many and many.count("nothing") == 0


def _renamed(image: Any) -> Any:
    return type(image)(image.id, f"z{image.sha256}", image.group, image.identity, image.split, image.load)


def _step(**step: Any) -> ChainStep:
    return ChainStep(kind="swap", generator="simswap", checkpoint="x", **step)


# The sha256 of all keys of a dataset, as release 0.1.0 before its plans were made for many images at once gave them.
KEYS = {
    ("None", True): "b47457521d72826f8377539a373376d259f165d30213943bc1c35045402f7154",
    ("None", False): "ec88bbb01506dfad47530f5714d8d361f04a736ebbfd90ecd697565663ae7a43",
    ("{'jpeg': 'reals'}", True): "577cde89e4585a9901a5cd093c900988175e5b71f9c4e8dffd058cec739977b1",
    ("{'jpeg': 'reals'}", False): "4cc904449679d78a83a4f8aa375e99f5f22f9133fa26fdf671f8a18ceafb776f",
    ("{'recompress': {'quality': [60, 95]}}", True): "3c8f5a73eb4e80f28926a86545ee8145d6f9e1ef44d6d325cb80310eee5b8d32",
    ("{'recompress': {'quality': [60, 95]}}", False): "b64350ee4035085586be60b42455f7431319bdcff76d7c797a1b5d888a17b2c5",
}


@pytest.mark.parametrize("parity", [None, {"jpeg": "reals"}, {"recompress": {"quality": [60, 95]}}], ids=["clean", "past", "recompressed"])
@pytest.mark.parametrize("repeat", [True, False], ids=["repeated", "once"])
def test_keys_are_those_of_earlier_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parity: Any, repeat: bool) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    file = fake_dataset(tmp_path / "data", count=70, people=40)
    data = yaml.safe_load(file.read_text()) | ({"parity": parity} if parity else {})
    for subset in data["subsets"].values():
        for step in subset["chain"]:
            step.update({"repeat_pairs": repeat} if "swap" in step else {})
    last = data["subsets"]["Chained"]["chain"][-1]
    data["subsets"]["Again"] = {"count": 60, "real": "people", "chain": [{"from": "Chained"}, last]}
    with fake_generators():
        plan = planned(write(file, data))
    assert not plan.missing and len(plan.shards) == 107
    keys = hashlib.sha256(" ".join(shard.key for shard in plan.shards).encode()).hexdigest()
    assert keys == KEYS[str(parity), repeat]
