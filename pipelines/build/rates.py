"""How long an image takes on this machine, by the builds that ran on it. A plan uses it to say how long a build will take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from foreign.json_files import read_json
from pipelines.files import cache_folder, update_cache
from pipelines.plan.shards import Shard

SMOOTHING = 0.5  # weight of the newest build against what was known before


def remember(device: str, timings: Iterable[tuple[Shard, int, float]]) -> None:
    """Keeps the seconds an image of each generator and checkpoint, from (shard, images, seconds). Not being able to is no error."""
    totals: dict[str, list[float]] = {}
    for shard, images, seconds in timings:
        if shard.generator and images:
            total = totals.setdefault(_key(shard, device), [0.0, 0.0])
            total[0] += seconds
            total[1] += images
    rates = {key: spent / count for key, (spent, count) in totals.items()}
    if rates:
        update_cache(_file(), _read, lambda known: {**known, **{key: _smoothed(rate, known.get(key)) for key, rate in rates.items()}})


def estimate(device: str, shards: Iterable[Shard]) -> tuple[float, frozenset[str]]:
    """The seconds that making `shards` will take, and the generators that have not run here yet: their time is left out."""
    known, seconds, unknown = _read(), 0.0, set()
    for shard in shards:
        rate = known.get(_key(shard, device))
        if rate is not None:
            seconds += rate * shard.count
        elif shard.generator:
            unknown.add(shard.generator)
    return seconds, frozenset(unknown)


def _smoothed(rate: float, before: float | None) -> float:
    return rate if before is None else SMOOTHING * rate + (1 - SMOOTHING) * before


def _key(shard: Shard, device: str) -> str:
    return f"{shard.generator} {shard.checkpoint} {device.split(':', maxsplit=1)[0]}"


def _file() -> Path:
    return cache_folder() / "rates.json"


def _read() -> dict[str, float]:
    try:
        rates = read_json(_file())
        return {str(key): float(value) for key, value in rates.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
