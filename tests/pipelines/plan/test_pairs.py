"""Who is put on whom: within a split, never oneself, nobody twice on one image, and nobody who is in the chain already."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pytest

from generators.seeding import derive_seed
from pipelines.manifest.chains import ChainStep
from pipelines.manifest.splits import Split
from pipelines.plan import pairs
from pipelines.plan.pairs import NobodyLeft, Pairing, person
from pipelines.plan.reals import RealImage, RealPool

SPLITS: list[Split] = ["train", "validation", "train", "test"] * 3


def pool(name: str, people: int, each: int = 2) -> RealPool:
    """`people` persons in every split, with `each` images."""
    images = []
    for split in ("train", "validation", "test"):
        for number in range(people * each):
            who, digest = f"{split}-{number % people}", hashlib.sha256(f"{name}{split}{number}".encode()).hexdigest()
            images.append(RealImage(f"real/{name}/{split}/{number}", digest, who, who, split, lambda: np.zeros((1, 1, 3), np.uint8)))  # type: ignore[arg-type]
    return RealPool(name, "x", tuple(sorted(images, key=lambda image: image.sha256)), len(images))


def pairing(pools: dict[str, RealPool], position: int = 0, **step: Any) -> Pairing:
    return Pairing(ChainStep(kind="swap", generator="simswap", checkpoint="x", **step), position, 7, SPLITS, pools)


def test_a_step_that_draws_nobody_has_no_draw() -> None:
    assert pairing({}).draw(0, 0) == {}


def test_real_targets_alone_are_drawn_from_the_image_s_split() -> None:
    drawn = [pairing({"t": pool("t", 3)}, target="t").draw(index, 0) for index in range(len(SPLITS))]
    assert [set(draw) for draw in drawn] == [{"target"}] * len(SPLITS)
    assert [draw["target"].split for draw in drawn] == SPLITS


def test_pairs_are_of_one_split_of_two_people_and_of_no_pair_twice() -> None:
    pools = {"s": pool("p", 8), "t": pool("p", 8)}
    both = pairing(pools, source="s", target="t")
    drawn = [both.draw(index, attempt) for attempt in range(3) for index in range(len(SPLITS))]
    for draw, split in zip(drawn, SPLITS * 3, strict=True):
        assert draw["source"].split == draw["target"].split == split
        assert person(draw["source"]) != person(draw["target"])
    assert max(Counter((draw["target"].id, person(draw["source"])) for draw in drawn).values()) == 1


def test_pairs_of_an_attempt_do_not_depend_on_the_order_in_which_they_are_asked_for() -> None:
    pools = {"s": pool("p", 4), "t": pool("p", 4)}
    forwards, backwards = pairing(pools, source="s", target="t"), pairing(pools, source="s", target="t")
    there = {(index, attempt): forwards.draw(index, attempt) for attempt in range(2) for index in range(len(SPLITS))}
    back = {(index, attempt): backwards.draw(index, attempt) for attempt in (1, 0) for index in reversed(range(len(SPLITS)))}
    assert there == back
    assert len({draw["target"].id for draw in there.values()}) > 3, "the seed of each image draws its own"


def test_a_source_is_nobody_of_the_chain_so_far() -> None:
    sources = pairing({"s": pool("s", 3)}, source="s", position=1)
    for index, split in enumerate(SPLITS):
        everybody = {f"{split}-{number}" for number in range(3)}
        first = sources.draw(index, 0)
        assert set(first) == {"source"} and first["source"].split == split
        other = sources.draw(index, 0, {person(first["source"])})
        assert person(other["source"]) != person(first["source"])
        with pytest.raises(NobodyLeft, match=f"real source s has 3 people in the {split} split"):
            sources.draw(index, 0, everybody)


def test_another_attempt_puts_another_person_on_the_target_until_all_were_tried() -> None:
    sources = pairing({"s": pool("s", 3)}, source="s", position=1)
    tried = [person(sources.draw(0, attempt)["source"]) for attempt in range(3)]
    assert len(set(tried)) == 3
    with pytest.raises(NobodyLeft):
        sources.draw(0, 3)


def test_repeated_pairs_are_allowed_where_the_step_says_so() -> None:
    alone = {"s": pool("s", 1), "t": pool("t", 1, each=1)}
    sources = pairing(alone, source="s", position=1, repeat_pairs=True)
    assert {person(sources.draw(0, attempt)["source"]) for attempt in range(4)} == {"train-0"}
    two = {"s": pool("p", 2, each=1), "t": pool("p", 2, each=1)}
    free = pairing(two, source="s", target="t", repeat_pairs=True)
    assert all(free.draw(index, attempt) for attempt in range(3) for index in range(len(SPLITS)))
    strict = pairing(two, source="s", target="t")
    outcomes = Counter(_outcome(strict, index) for index in range(len(SPLITS)))
    # two people in each split can be put on each other in two ways; train has six images, the others three
    assert outcomes == {"drawn": 6, "nobody": 6}


def _outcome(pairs: Pairing, index: int) -> str:
    try:
        pairs.draw(index, 0)
    except NobodyLeft as error:
        assert "real source s" in error.message.replace("source p", "source s") and "repeat_pairs" in error.fix
        return "nobody"
    return "drawn"


def test_a_split_without_images_is_named() -> None:
    empty = RealPool("t", "x", tuple(image for image in pool("t", 2).images if image.split != "test"), 4)
    with pytest.raises(NobodyLeft, match="t has no image in the test split") as caught:
        pairing({"t": empty}, target="t").draw(3, 0)
    assert "repeat_pairs" not in caught.value.fix


def test_an_image_without_identity_is_somebody_of_its_own() -> None:
    image = pool("s", 1).images[0]
    assert person(image) == image.identity
    assert person(RealImage("a", "0", "g", None, "train", image.load)) == "a"


@pytest.mark.parametrize(
    ("people", "fakes", "step", "needed"),
    [
        (1, 1, {}, 2),  # two people make the pair
        (1, 1, {"repeat_pairs": True}, 2),
        (2, 13, {}, 5),  # four people make 12 pairs, five make 20
        (2, 3, {}, 3),
        (2, 12, {}, 4),  # which make just as many pairs
    ],
)
def test_the_error_says_how_many_people_would_do(people: int, fakes: int, step: dict[str, bool], needed: int) -> None:
    pools = {"s": pool("p", people, each=1), "t": pool("p", people, each=1)}
    chain = ChainStep(kind="swap", generator="simswap", checkpoint="x", source="s", target="t", **step)
    pairs = Pairing(chain, 0, 7, ["train"] * fakes, pools, "S")
    said = rf"^subset S: real source p has {people} \w+ in the train split, and at least {needed} are needed"
    with pytest.raises(NobodyLeft, match=said):
        for index in range(fakes):
            pairs.draw(index, 0)


def test_draws_follow_from_the_seed_of_the_image_the_attempt_and_the_role() -> None:
    """Those of a dataset that was built must come again: the seed is derived from part, step, image, attempt and role."""
    people = pool("p", 8)
    for position in (0, 1):
        for index, split in enumerate(SPLITS):
            for role, step in (("source", {"source": "s"}), ("target", {"target": "s"})):
                drawn = pairing({"s": people}, position=position, **step).draw(index, 2, since=2)[role]
                assert drawn == next(iter(people.around(derive_seed(7, position, index, 2, role), split)))


def test_people_who_were_all_tried_are_one_too_few() -> None:
    """Three people make six pairs, enough for four fakes, but not for a second attempt at each of them."""
    pools = {"s": pool("p", 3, each=1), "t": pool("p", 3, each=1)}
    chain = ChainStep(kind="swap", generator="simswap", checkpoint="x", source="s", target="t")
    pairs = Pairing(chain, 0, 7, ["train"] * 4, pools, "S")
    assert all(pairs.draw(index, 0) for index in range(4))
    with pytest.raises(NobodyLeft, match="real source p has 3 people in the train split, and at least 4 are needed"):
        for index in range(4):
            pairs.draw(index, 1)


def test_targets_are_worked_on_equally_often_if_none_may_be_repeated() -> None:
    targets = {"t": pool("t", 3, each=1)}  # three of each split, for six fakes of train and three of each other
    drawn = [pairing(targets, target="t", repeat_targets=False).draw(index, 0)["target"] for index in range(len(SPLITS))]
    assert [image.split for image in drawn] == SPLITS
    times = Counter(image.id for image in drawn)
    assert {times[image.id] for image in targets["t"].images if image.split == "train"} == {2}
    assert {times[image.id] for image in targets["t"].images if image.split != "train"} == {1}
    repeated = [pairing(targets, target="t").draw(index, 0)["target"].id for index in range(len(SPLITS))]
    assert max(Counter(repeated).values()) > 2, "by chance alone they are not"


def test_a_further_attempt_takes_the_targets_that_were_worked_on_least() -> None:
    targets = {"t": pool("t", 4, each=1)}
    steps = Pairing(
        ChainStep(kind="edit", generator="vqgan", checkpoint="x", target="t", repeat_targets=False), 0, 7, ["test"] * 3, targets
    )
    again = [steps.draw(index, 1)["target"].id for index in range(3)]
    first = [steps.draw(index, 0)["target"].id for index in range(3)]
    assert len(set(first)) == len(set(again)) == 3
    assert {*first, *again} == {image.id for image in targets["t"].images if image.split == "test"}
    assert again == [steps.draw(index, 1)["target"].id for index in range(3)]
    assert first[0] == next(iter(targets["t"].around(derive_seed(7, 0, 0, 0, "target"), "test"))).id, "the first is the one of its seed"


def test_no_target_in_a_split_is_named_if_none_may_be_repeated() -> None:
    empty = RealPool("t", "x", tuple(image for image in pool("t", 2).images if image.split != "test"), 4)
    with pytest.raises(NobodyLeft, match="t has no image in the test split"):
        pairing({"t": empty}, target="t", repeat_targets=False).draw(3, 0)


@pytest.mark.parametrize("repeat_pairs", [False, True])
@pytest.mark.parametrize("block", [1, 5, 4096])
def test_pairs_are_the_first_of_both_rings_that_may_meet(repeat_pairs: bool, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are found out at once: by the seeds of each image, in the order of images and attempts."""
    monkeypatch.setattr(pairs, "BLOCK", block)
    people = pool("p", 3, each=2)
    both = pairing({"s": people, "t": people}, position=1, source="s", target="t", repeat_pairs=repeat_pairs)
    used: set[tuple[str, str]] = set()
    for attempt in range(2):
        for index, split in enumerate(SPLITS):
            targets, sources = (list(people.around(derive_seed(7, 1, index, attempt, role), split)) for role in ("target", "source"))
            target, source = next(
                (target, source)
                for target in targets
                for source in sources
                if person(source) != person(target) and (repeat_pairs or (target.id, person(source)) not in used)
            )
            used.add((target.id, person(source)))
            assert both.draw(index, attempt) == {"target": target, "source": source}


@pytest.mark.parametrize("roles", [{}, {"source": "s"}, {"target": "s"}, {"source": "s", "target": "s"}])
def test_first_draws_together_are_those_alone(roles: dict[str, str]) -> None:
    people = pool("p", 4)
    steps = pairing({"s": people}, position=1, **roles)
    alone = [steps.draw(index, 0) for index in range(len(SPLITS))]
    nobody: list[set[str]] = [set()] * len(SPLITS)
    assert steps.first(0, len(SPLITS), nobody) == alone
    assert steps.first(3, 7, nobody[3:7]) == alone[3:7]
    assert steps.draws_anybody is bool(roles)


def test_first_draws_together_avoid_who_is_in_the_chain() -> None:
    steps = pairing({"s": pool("s", 4)}, source="s", position=1)
    alone = [steps.draw(index, 0)["source"] for index in range(len(SPLITS))]
    avoid = [{person(image)} if index % 2 else {"somebody else"} for index, image in enumerate(alone)]
    together = [draw["source"] for draw in steps.first(0, len(SPLITS), avoid)]
    assert [image == before for image, before in zip(together, alone, strict=True)] == [index % 2 == 0 for index in range(len(SPLITS))]
    assert together == [steps.draw(index, 0, people)["source"] for index, people in enumerate(avoid)]
    with pytest.raises(NobodyLeft):
        steps.first(0, 1, [{f"train-{number}" for number in range(4)}])
