"""Who is put on whom: the real images that the planned fakes of one step are made from.

All draws of a fake come from its own split. A source is never the person that it is put on, nor anyone who was put on the same image
before: neither by an earlier step or attempt, nor, where targets are real, by another fake of the same part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import count

import numpy as np

from generators.errors import InputError
from generators.seeding import derive_seed, derive_seeds
from pipelines.manifest.chains import ChainStep
from pipelines.manifest.splits import Split, SplitList
from pipelines.plan.reals import RealImage, RealPool

Drawn = dict[str, RealImage]
BLOCK = 4096  # images that are drawn for at once


class NobodyLeft(InputError):
    """A split has no image that may still be drawn."""


class Pairing:
    """The draws of one step of one part: its `source`, its `target`, both or neither, for any planned image and attempt.

    The draws of an image follow from its seeds alone. Only where two fakes would be the same person on the same real image does the later
    one give way, an attempt counting as later than all images of the attempt before.
    """

    def __init__(self, step: ChainStep, position: int, base: int, splits: Sequence[Split], pools: dict[str, RealPool], subset: str = ""):
        """`position` is that of the step in its chain, `base` the seed of the part, and `splits` has the split of each planned image."""
        self._subset = subset
        self._step, self._position, self._base = step, position, base
        self.splits = SplitList.of(splits)
        self._sources = pools.get(step.source or "")
        self._targets = pools.get(step.target or "")
        self._pairs: list[list[Drawn | None]] = []  # by attempt and index, where both are real or no target is repeated
        self._used: set[tuple[str, str]] = set()
        self._worked_on: Counter[str] = Counter()

    def draw(self, index: int, attempt: int, avoid: Collection[str] = (), since: int = 0) -> Drawn:
        """What image `index` is made from at an attempt. `avoid` are the people in its chain so far, and `since` is the attempt that made
        the image which the step works on. NobodyLeft if there is no one else."""
        if self._targets is not None and (self._sources is not None or not self._step.repeat_targets):
            while len(self._pairs) <= attempt:
                self._draw_pairs(len(self._pairs))
            drawn = self._pairs[attempt][index]
        elif self._targets is not None:
            drawn = next(({"target": image} for image in self._around(self._targets, index, attempt, "target")), None)
        elif self._sources is not None:
            drawn = self._draw_source(self._sources, index, attempt, avoid, since)
        else:
            return {}
        if drawn is None:
            raise self._nobody_left(self.splits[index])
        return drawn

    @property
    def draws_anybody(self) -> bool:
        return self._sources is not None or self._targets is not None

    def first(self, start: int, stop: int, avoid: Sequence[Collection[str]]) -> list[Drawn]:
        """What `draw` gives at the first attempt for the images from `start` to before `stop`, `avoid` for each of them."""
        if self._targets is not None or self._sources is None:
            return [self.draw(index, 0, people) for index, people in zip(range(start, stop), avoid, strict=True)]
        nearest = self._sources.nearest(self._seeds(start, stop, 0, "source"), self.splits.part(start, stop))
        return [
            self.draw(index, 0, people) if image is None or (people and person(image) in people) else {"source": image}
            for index, image, people in zip(range(start, stop), nearest, avoid, strict=True)
        ]

    def _seeds(self, start: int, stop: int, attempt: int, role: str) -> np.ndarray:
        """Those that decide where `_around` begins, for the images from `start` to before `stop`: uint64 `[N]`."""
        return derive_seeds((self._base, self._position), range(start, stop), (attempt, role))

    def _nobody_left(self, split: Split) -> NobodyLeft:
        """Names the subset, the split, and how many people or images it has and needs."""
        pool = self._sources or self._targets
        assert pool is not None
        people = len({person(image) for image in pool.images if image.split == split})
        title = f"subset {self._subset}: " if self._subset else ""
        if self._sources is None:
            problem = f"{title}real source {pool.name} has no image in the {split} split, and 1 is needed"
            return NobodyLeft(problem, "Add images, or change `splits`")
        repeat = ""
        if self._targets is None:
            needed = people + 1  # one more than all who were tried or are in the image already
        else:
            fakes = self.splits.count(split)
            needed = 2 if self._step.repeat_pairs else max(2, next(n for n in count(2) if n * (n - 1) >= fakes))
            needed = max(needed, people + 1)
            repeat = "; or set `repeat_pairs`"
        has = f"{people} {'person' if people == 1 else 'people'}"
        return NobodyLeft(
            f"{title}real source {pool.name} has {has} in the {split} split, and at least {needed} are needed",
            f"Add people, change `splits`, or lower `count`{repeat}",
        )

    def _around(self, pool: RealPool, index: int, attempt: int, role: str) -> Iterator[RealImage]:
        return pool.around(derive_seed(self._base, self._position, index, attempt, role), self.splits[index])

    def _draw_source(self, pool: RealPool, index: int, attempt: int, avoid: Collection[str], since: int) -> Drawn | None:
        """A source for a target that is the same since the attempt `since`: no person is tried on it twice. When the target
        is made again, everybody may be tried on the new one."""
        tried = set(avoid)
        source = None
        for past in range(since, attempt + 1):
            source = next((image for image in self._around(pool, index, past, "source") if person(image) not in tried), None)
            if source is None:
                return None
            if not self._step.repeat_pairs:
                tried.add(person(source))
        return {"source": source} if source else None

    def _draw_pairs(self, attempt: int) -> None:
        """The pairs, or the targets alone, of all images at one attempt, in the order of their index."""
        assert self._targets is not None
        drawn: list[Drawn | None] = []
        if self._sources is None:
            self._pairs.append([self._draw_unused(self._targets, index, attempt) for index in range(len(self.splits))])
            return
        for start in range(0, len(self.splits), BLOCK):
            stop = min(start + BLOCK, len(self.splits))
            seeds = [self._seeds(start, stop, attempt, role) for role in ("target", "source")]
            splits = self.splits.part(start, stop)
            targets, sources = self._targets.nearest(seeds[0], splits), self._sources.nearest(seeds[1], splits)
            for place, (target, source) in enumerate(zip(targets, sources, strict=True)):
                pair: Drawn | None = None
                if target is not None and source is not None and self._may_meet(target, source):
                    pair = {"target": target, "source": source}
                else:
                    pair = self._draw_pair(self._sources, self._targets, int(seeds[0][place]), int(seeds[1][place]), splits[place])
                if pair is not None and not self._step.repeat_pairs:
                    self._used.add((pair["target"].id, person(pair["source"])))
                drawn.append(pair)
        self._pairs.append(drawn)

    def _draw_unused(self, targets: RealPool, index: int, attempt: int) -> Drawn | None:
        """The first image of the ring that has been worked on least often."""
        ring = list(self._around(targets, index, attempt, "target"))
        if not ring:
            return None
        target = min(ring, key=lambda image: self._worked_on[image.id])
        self._worked_on[target.id] += 1
        return {"target": target}

    def _draw_pair(self, sources: RealPool, targets: RealPool, at_target: int, at_source: int, split: Split) -> Drawn | None:
        """The first target, going around from its seed, that has a source, going around from its own."""
        for target in targets.around(at_target, split):
            for source in sources.around(at_source, split):
                if self._may_meet(target, source):
                    return {"target": target, "source": source}
        return None

    def _may_meet(self, target: RealImage, source: RealImage) -> bool:
        """Whether a source may be put on a target: it is of another person, who was not put on it before, unless pairs may repeat."""
        who = person(source)
        return who != person(target) and (self._step.repeat_pairs or (target.id, who) not in self._used)


def first_draws(pairings: Sequence[Pairing], start: int, stop: int) -> list[Drawn]:
    """What the last of these steps draws for each image from `start` to before `stop` if no step is tried twice."""
    people: list[Collection[str]] = [()] * (stop - start)  # who was drawn so far
    for pairing in pairings[:-1]:
        if pairing.draws_anybody:
            drawn = pairing.first(start, stop, people)
            people = [{*own, *map(person, images.values())} for own, images in zip(people, drawn, strict=True)]
    return pairings[-1].first(start, stop, people)


def person(image: RealImage) -> str:
    """Who an image shows; an image without an identity is somebody of its own."""
    return image.identity or image.id
