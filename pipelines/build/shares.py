"""Which shards a build makes, in which order, and making them without a commit: so much is what a share of a build does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from pipelines.build.runner import Failure, Runner
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store.pending import Note

OnShard = Callable[[Shard, Note | None, int, int], None]


@dataclass(frozen=True)
class ShardsMade:
    """What a runner came to: the notes of the shards that are written, and the shards that failed."""

    notes: tuple[Note, ...] = ()
    failures: tuple[Failure, ...] = ()


def run_shards(shards: Sequence[Shard], runner: Runner, on_shard: OnShard | None = None) -> ShardsMade:
    """Makes shards and writes them, so that they wait for a commit. A shard that fails does not stop the others.

    `on_shard(shard, note, done, total)` is called as each ends, with None for the note of one that failed. Raises InputError.
    """
    notes: list[Note] = []
    failures: list[Failure] = []
    with closing(runner.run(shards)) as ended:
        for done, (shard, result) in enumerate(ended, start=1):
            if isinstance(result, Failure):
                failures.append(result)
            else:
                notes.append(result)
            if on_shard:
                on_shard(shard, None if isinstance(result, Failure) else result, done, len(shards))
    return ShardsMade(tuple(notes), tuple(failures))


def in_order(shards: Iterable[Shard]) -> list[Shard]:
    """Inputs first, deliveries last, and within a step all work of one checkpoint together, so that each model is loaded once."""
    return sorted(shards, key=lambda shard: (shard.delivery, shard.step, shard.generator, shard.checkpoint, *_chain(shard)))


def chains_of(plan: Plan, shards: Iterable[Shard]) -> dict[str, list[Shard]]:
    """`shards` by the chain that they belong to, in the order of the plan: by the key of the chain's first shard. No chain needs a shard of
    another, so that each can be made by itself."""
    roots: dict[str, str] = {}  # of each shard, the key of the first one of its chain: a subset may begin at another's images
    for shard in (*plan.shards, *plan.delivered):
        roots[shard.key] = roots.get(shard.inputs[0], shard.inputs[0]) if shard.inputs else shard.key
    chains: dict[str, list[Shard]] = {}
    for shard in shards:
        chains.setdefault(roots[shard.key], []).append(shard)
    return chains


def _chain(shard: Shard) -> tuple[str, str, int, int]:
    return shard.subset, shard.real, shard.part, shard.start
