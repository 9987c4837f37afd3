"""What a manifest needs and this machine does not have: checkpoints, and folders of real images."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.catalogue.catalogue import Catalogue
from pipelines.manifest.schema import ChainStep, Manifest
from pipelines.plan.reals import RealPool, open_pool


@dataclass(frozen=True)
class Missing:
    """Something that the build needs and this machine does not have: what it is, the path where it is looked for, where a person gets it,
    its licence, and the subsets that need it."""

    what: str
    path: str
    origin: str
    licence: str
    needed_by: tuple[str, ...]


def missing_checkpoints(manifest: Manifest, catalogue: Catalogue) -> dict[str, Missing]:
    """The checkpoints, components and face networks included, that are not on this machine, by name."""
    needed: dict[str, list[str]] = {}
    for subset, _, part in manifest.walk():
        for step in part.chain:
            for checkpoint in _own_checkpoints(step, manifest):
                for absent in catalogue.missing(checkpoint):
                    needed.setdefault(absent, []).append(subset)
    return {
        name: Missing(
            f"checkpoint {name}",
            str(catalogue.path(name)),
            catalogue.entries[name].origin,
            catalogue.entries[name].licence,
            tuple(dict.fromkeys(subsets)),
        )
        for name, subsets in needed.items()
    }


def needed_checkpoints(step: ChainStep, manifest: Manifest, catalogue: Catalogue) -> set[str]:
    """The checkpoints of a step, with their components and those of the face networks."""
    names = set(_own_checkpoints(step, manifest))
    return names | {component for name in names for component in catalogue.entries[name].components.values()}


def open_pools(manifest: Manifest) -> tuple[dict[str, RealPool], dict[str, Missing]]:
    """The pools of all real sources that a subset names, and the sources whose folder is not there. InputError if a folder is no use."""
    counts: dict[str, int] = {}
    users: dict[str, list[str]] = {}
    for subset, _, part in manifest.walk():
        for real in {part.real, *(role for step in part.chain for role in (step.source, step.target) if role is not None)}:
            counts[real] = max(counts.get(real, 0), part.count)
            users.setdefault(real, []).append(subset)
    pools, missing = {}, {}
    for real, count in counts.items():
        source = manifest.reals[real]
        if source.path is not None and not source.path.is_dir():
            title = f"real source {real}"
            missing[title] = Missing(title, str(source.path), "your own copy", source.licence, tuple(dict.fromkeys(users[real])))
        else:
            pools[real] = open_pool(real, source, manifest.splits, count)
    return pools, missing


def _own_checkpoints(step: ChainStep, manifest: Manifest) -> list[str]:
    """The checkpoint of a step, and the face networks that a step with faces needs."""
    return [step.checkpoint, *(network for _, network in manifest.faces.networks if step.uses_faces)]
