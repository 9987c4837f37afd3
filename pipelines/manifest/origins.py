"""Subsets that begin at another subset's final images: `chain: [{from: LDM}, {swap: simswap, ...}]`.

Such a part takes over the chain, the seeds, the splits and the people of the part that it begins at, so that image number 17 of both shows
the same picture. It is made of the stored images of that part: nothing is made twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipelines.manifest.chains import ChainStep, Part, Subset

Parts = Mapping[str, Subset]


def with_inherited(subsets: Parts) -> dict[str, Subset]:
    """The subsets with the chains that they take over in front of their own. A part whose `from` leads nowhere, or round in a circle, stays
    as it is: `faults` says why."""
    return {name: subset.model_copy(update={"parts": _resolved(name, subset, subsets)}) for name, subset in subsets.items()}


def origin_of(subsets: Parts, name: str, part: Part, number: int) -> Part | None:
    """The part that a part begins at: the one of its `origin` with the same real source and the same number. None if there is none."""
    origin = subsets.get(part.origin or "")
    same = [other for other in origin.parts if other.real == part.real] if origin is not None else []
    return same[number] if number < len(same) else None


def faults(subsets: Parts, name: str, part: Part, number: int) -> Iterator[tuple[str, str]]:
    """What is wrong with where a part begins, and the fix."""
    if part.origin is None:
        return
    if part.origin not in subsets:
        yield f"subset {name}: there is no subset {part.origin!r} to begin at", f"Known: {', '.join(sorted(subsets))}"
        return
    begin = origin_of(subsets, name, part, number)
    if begin is None:
        yield f"subset {name}: {part.origin} has no such part with the real source {part.real!r}", "Give both the same real sources"
    elif not part.inherited and _comes_back(subsets, name, part, number):
        yield f"subset {name}: it begins at itself by way of {part.origin}", "Let the first subset make its images"
    elif part.inherited and part.count > begin.count:
        yield f"subset {name}: {part.count} images cannot begin at the {begin.count} of {part.origin}", f"At most {begin.count}"


def _comes_back(subsets: Parts, name: str, part: Part, number: int) -> bool:
    """Whether a part begins at itself, by way of others or at once."""
    seen: set[str] = set()
    begin: Part | None = part
    while begin is not None and begin.origin is not None and begin.origin not in seen:
        if begin.origin == name:
            return True
        seen.add(begin.origin)
        begin = origin_of(subsets, begin.origin, begin, number)
    return False


def _resolved(name: str, subset: Subset, subsets: Parts) -> tuple[Part, ...]:
    parts = []
    for place, part in enumerate(subset.parts):
        number = sum(other.real == part.real for other in subset.parts[:place])
        above = None if part.inherited else _chain_above(name, part, number, subsets, (name,))
        parts.append(part.model_copy(update={"chain": (*above, *part.chain), "inherited": len(above)}) if above else part)
    return tuple(parts)


def _chain_above(name: str, part: Part, number: int, subsets: Parts, seen: tuple[str, ...]) -> tuple[ChainStep, ...] | None:
    """The whole chain of the part that this one begins at; None if it leads nowhere."""
    begin = origin_of(subsets, name, part, number)
    if begin is None or part.origin in seen:
        return None
    assert part.origin is not None
    if begin.origin is None or begin.inherited:
        return begin.chain
    above = _chain_above(part.origin, begin, number, subsets, (*seen, part.origin))
    return None if above is None else (*above, *begin.chain)
