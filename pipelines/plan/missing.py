"""What a manifest needs and this machine does not have, or has in a form that is no use: checkpoints, real images and prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from generators.errors import InputError
from pipelines.catalogue.catalogue import Catalogue
from pipelines.manifest.chains import ChainStep
from pipelines.manifest.schema import Manifest
from pipelines.plan.keys import prompts_of
from pipelines.plan.reals import RealPool, open_pool

GETTING_DATA = "the page docs/getting-the-data.md"


@dataclass(frozen=True)
class Missing:
    """Something that the build needs and this machine does not have: what it is, the path where it is looked for, where a person gets it,
    its licence, and the subsets that need it.

    Where it is there and no use, `problem` says why, and `origin` is what to do about it.
    """

    what: str
    path: str
    origin: str
    licence: str
    needed_by: tuple[str, ...]
    problem: str = ""

    @property
    def no_use(self) -> bool:
        """Whether the input is wrong: what is meant is there and no use, or people are too few. Otherwise it only has to be fetched."""
        return bool(self.problem) and (not self.path or Path(self.path).exists())

    def error(self) -> InputError:
        """The error of a build that cannot begin without it."""
        if self.problem:
            return InputError(self.problem, self.origin)
        return InputError(f"{self.what} is missing: {self.path}", f"Get it: {self.origin}")


def missing_checkpoints(manifest: Manifest, catalogue: Catalogue) -> dict[str, Missing]:
    """The checkpoints, components and face networks included, that are not on this machine or are not those that are listed, by name."""
    needed: dict[str, list[str]] = {}
    users: dict[str, list[str]] = {}
    for subset, _, part in manifest.walk():
        for step in part.chain:
            for checkpoint in _own_checkpoints(step, manifest):
                for absent in catalogue.missing(checkpoint):
                    needed.setdefault(absent, []).append(subset)
                for name in (checkpoint, *catalogue.entries[checkpoint].components.values()):
                    users.setdefault(name, []).append(subset)
    problems = {}
    for name, subsets in users.items():
        if name not in needed and (problem := _wrong_identity(name, catalogue)) is not None:
            needed[name], problems[name] = subsets, problem
    return {
        name: Missing(
            f"checkpoint {name}",
            str(catalogue.path(name)),
            problems[name].fix if name in problems else catalogue.origin(name),
            catalogue.entries[name].licence,
            tuple(dict.fromkeys(subsets)),
            problems[name].message if name in problems else "",
        )
        for name, subsets in needed.items()
    }


def _wrong_identity(name: str, catalogue: Catalogue) -> InputError | None:
    """What is wrong with a checkpoint that is there: it cannot be read, or is not the one that is listed."""
    try:
        catalogue.sha256(name)
    except InputError as error:
        return error
    return None


def wrong_prompts(manifest: Manifest) -> dict[Path, Missing]:
    """The files of prompts that are not there or have none, by path."""
    wrong: dict[Path, Missing] = {}
    users: dict[Path, list[str]] = {}
    for subset, _, part in manifest.walk():
        for step in part.chain:
            if isinstance(step.prompts, Path):
                users.setdefault(step.prompts, []).append(subset)
                try:
                    prompts_of(step)
                except InputError as error:
                    title = "prompts" if step.prompts.is_file() else "a file of prompts"
                    subsets = tuple(dict.fromkeys(users[step.prompts]))
                    wrong[step.prompts] = Missing(title, str(step.prompts), error.fix, "your own", subsets, error.message)
    return wrong


def needed_by_manifest(manifest: Manifest) -> list[str]:
    """The checkpoints that the manifest's steps name, and those of the face networks that its swaps need, each once."""
    return list(dict.fromkeys(name for _, _, part in manifest.walk() for step in part.chain for name in _own_checkpoints(step, manifest)))


def needed_checkpoints(step: ChainStep, manifest: Manifest, catalogue: Catalogue) -> set[str]:
    """The checkpoints of a step, with their components and those of the face networks."""
    names = set(_own_checkpoints(step, manifest))
    return names | {component for name in names for component in catalogue.entries[name].components.values()}


def open_pools(manifest: Manifest) -> tuple[dict[str, RealPool], dict[str, Missing]]:
    """The pools of all real sources that a subset names, and the sources that are not there or no use."""
    users: dict[str, list[str]] = {}
    for subset, _, part in manifest.walk():
        for real in part.all_reals:
            users.setdefault(real, []).append(subset)
    pools, missing = {}, {}
    for real, count in manifest.images_of_reals().items():
        source, title = manifest.reals[real], f"real source {real}"
        absent = Missing(title, str(source.path), f"{GETTING_DATA}, or your own copy", source.licence, tuple(dict.fromkeys(users[real])))
        if source.path is not None and not source.path.is_dir():
            missing[title] = absent
            continue
        try:
            pools[real] = open_pool(real, source, manifest.splits, count)
        except InputError as error:
            missing[title] = replace(absent, origin=error.fix, problem=error.message)
    return pools, missing


def _own_checkpoints(step: ChainStep, manifest: Manifest) -> list[str]:
    """The checkpoint of a step, and the face networks that a step with faces needs."""
    return [step.checkpoint, *(network for _, network in manifest.faces.networks if step.uses_faces)]
