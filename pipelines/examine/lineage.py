"""Which ingredient of an image changed: the checkpoint, a parameter, the seed, the code, or the images that it was made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from generators.errors import InputError
from pipelines.make.rows import chain_link, prompt_of, seed_of
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store
from pipelines.store.schema import parsed
from pipelines.store.upgrade import read_rows

Chain = Sequence[dict[str, Any]]
# Keys of a manifest that are not compared: the images' chains show them, or they do not change pixels.
ELSEWHERE = {
    "dataset",
    "seed",
    "attempts",
    "allow_missing",
    "audit",
    "detector",
    "checkpoints",
    "reals",
    "subsets",
    "deliveries",
    "publish",
}


@dataclass(frozen=True)
class Change:
    """One ingredient that differs. `step` counts from 1, 0 being the whole image; `kind` is `checkpoint`, `parameter`, `seed`, `code`,
    `source images`, `prompt`, `generator`, `chain`, `manifest`, or `not in the manifest`."""

    kind: str
    step: int = 0
    detail: str = ""

    def __str__(self) -> str:
        where = f"step {self.step}: " if self.step else ""
        return f"{where}{self.kind}{' ' if self.detail else ''}{self.detail}"


@dataclass(frozen=True)
class StaleShards:
    """Shards of one step of one subset (or of one real source) that a plan has no more, and why: the same reasons for all of them."""

    title: str
    keys: tuple[str, ...]
    reasons: tuple[Change, ...]


def changes(before: Chain, after: Chain) -> tuple[Change, ...]:
    """What differs between two recorded chains, step by step. Empty if both say the same."""
    differences: list[Change] = []
    if len(before) != len(after):
        differences.append(Change("chain", 0, f"{len(before)} steps -> {len(after)} steps"))
    for step, (old, new) in enumerate(zip(before, after, strict=False), start=1):
        differences += _changes_of_step(old, new, step)
    return tuple(differences)


def expected_chain(plan: Plan, shard: Shard, index: int, attempts: Sequence[int]) -> list[dict[str, Any]]:
    """The chain that a build of `plan` would record for image `index` of `shard`, each step made at the attempt given for it.

    Raises InputError if a checkpoint that it needs is not on this machine.
    """
    chain: list[dict[str, Any]] = []
    for position, attempt in zip(range(shard.step + 1), attempts, strict=True):
        at = replace(shard, role="intermediate", step=position, start=index, stop=index + 1)
        seed = seed_of(plan, at, index, attempt)
        drawn = plan.draws(at, index, attempt, chain)
        chain.append(chain_link(plan, at, attempt, seed, drawn, prompt_of(plan.step(at), seed)))
    return chain


def stale_shards(plan: Plan, store: Store, keys: Iterable[str]) -> list[StaleShards]:
    """Why the committed shards `keys`, which `plan` does not have, are stale. Grouped by subset, step and reasons."""
    fragments = {key: fragment for key, fragment in store.keys().items() if key in set(keys)}
    dataset = store.dataset() if fragments else None
    sections = _changed_sections(plan, store) if fragments else ""
    groups: dict[tuple[str, tuple[Change, ...]], list[str]] = {}
    for key, number in fragments.items():
        assert dataset is not None
        columns = ["role", "subset", "real", "part", "step", "index", "chain", "delivery"]
        rows = read_rows(dataset.get_fragment(number), columns).to_pylist()
        groups.setdefault(_why_stale(plan, rows, sections), []).append(key)
    return [StaleShards(title, tuple(keys), reasons) for (title, reasons), keys in sorted(groups.items(), key=str)]


def _changed_sections(plan: Plan, store: Store) -> str:
    """The settings of the whole manifest (size, codec, faces, ...) that are not as they were when the newest version was made."""
    version = store.version()
    old = version.manifest if "manifest" in version.properties else {}
    new = plan.manifest.model_dump(mode="json")
    return ", ".join(sorted(name for name in new.keys() - ELSEWHERE if name in old and old[name] != new[name]))


def _why_stale(plan: Plan, rows: list[dict[str, Any]], sections: str) -> tuple[str, tuple[Change, ...]]:
    kept = [row for row in rows if row["role"] != "rejected"] or rows
    step = max(row["step"] for row in kept)
    own = [row for row in kept if row["step"] == step]
    first, indices = own[0], [row["index"] for row in own]
    if first["delivery"]:
        named = first["delivery"] in plan.manifest.deliveries
        reason = Change("what was delivered, or the recipe") if named else Change("not in the manifest")
        return f"{first['subset']} delivered as {first['delivery']}", (reason,)
    if first["role"] == "real":
        gone = first["subset"] not in plan.pools
        reason = Change("not in the manifest") if gone else Change("source images", 0, "or their size or codec")
        return f"reals {first['subset']}", (reason,)
    title = f"{first['subset']} step {step + 1}"
    chain = (first["subset"], first["real"], first["part"])
    same = [shard for shard in plan.shards if (shard.subset, shard.real, shard.part) == chain and shard.step == step]
    covering = [shard for shard in same if shard.start <= indices[0] < shard.stop]
    if not covering:
        return title, (Change("not in the manifest", 0, "" if not same else "the count is lower now"),)
    causes: Counter[Change] = Counter()
    for row in own:
        links = parsed(row, "chain")
        try:
            causes.update(changes(links, expected_chain(plan, covering[0], row["index"], [link["attempt"] for link in links])))
        except (InputError, ValueError) as error:
            return title, (Change("checkpoint" if isinstance(error, InputError) else "chain", step + 1, str(error)),)
    return title, tuple(sorted(causes, key=lambda change: (change.step, change.kind, change.detail))) or (
        Change("manifest", 0, sections or "size, codec, splits or faces"),
    )


def _changes_of_step(old: dict[str, Any], new: dict[str, Any], step: int) -> list[Change]:
    if (old["kind"], old["generator"]) != (new["kind"], new["generator"]):
        return [Change("generator", step, f"{old['kind']} {old['generator']} -> {new['kind']} {new['generator']}")]
    differences = []
    if old["identity"] != new["identity"]:
        differences.append(Change("checkpoint", step, _checkpoints(old, new)))
    for name in sorted(old["parameters"].keys() | new["parameters"].keys()):
        before, after = old["parameters"].get(name), new["parameters"].get(name)
        if before != after:
            differences.append(Change("parameter", step, f"{old['generator']} {name} {before} -> {after}"))
    if old["output_version"] != new["output_version"]:
        differences.append(Change("code", step, f"{old['generator']} output version {old['output_version']} -> {new['output_version']}"))
    if (old["seed"], old["attempt"]) != (new["seed"], new["attempt"]):
        differences.append(Change("seed", step, "another attempt" if old["attempt"] != new["attempt"] else ""))
    if any(old.get(role) != new.get(role) for role in ("source", "target")):
        differences.append(Change("source images", step))
    if old.get("prompt") != new.get("prompt"):
        differences.append(Change("prompt", step))
    return differences


def _checkpoints(old: dict[str, Any], new: dict[str, Any]) -> str:
    """ "simswap-224 1a2b3c4d -> 5e6f7a8b", or which component of it or that its options changed."""
    names = old["checkpoint"] if old["checkpoint"] == new["checkpoint"] else f"{old['checkpoint']} -> {new['checkpoint']}"
    before, after = old["identity"], new["identity"]
    if before["sha256"] != after["sha256"]:
        return f"{names} {before['sha256'][:8]} -> {after['sha256'][:8]}"
    parts = [
        role
        for role in sorted({*before["components"], *after["components"]})
        if before["components"].get(role) != after["components"].get(role)
    ]
    return f"{names} ({', '.join(parts) or 'options'})"
