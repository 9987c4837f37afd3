"""Whether the folders and lists that a manifest names are there and can be read. Nothing is decoded or hashed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from foreign.errors import InputError
from generators.demo.pictures import held_out_pictures
from pipelines.manifest.load import Checked
from pipelines.manifest.schema import Manifest, RealSource
from pipelines.manifest.yaml_lines import KeyPath, Misread
from pipelines.plan.keys import prompts_of
from pipelines.plan.reals import excluded_identities, list_source, read_identities


def wrong_files(checked: Checked) -> list[Misread]:
    """Every real source and prompts file of a manifest that is missing or cannot be read, with the line that names it."""
    if checked.manifest is None:
        return []
    wrong = list(_wrong_sources(checked.manifest)) + list(_wrong_prompts(checked.manifest))
    return [checked.problem(error.message, error.fix, at) for error, at in wrong]


def _wrong_sources(manifest: Manifest) -> Iterator[tuple[InputError, KeyPath]]:
    for name, source in manifest.reals.items():
        at: KeyPath = ("reals", name)
        try:
            known = set(read_identities(source).values())
        except InputError as error:
            yield error, (*at, "identities")
            known = None
        if source.path is not None:
            try:
                list_source(name, source if known is not None else source.model_copy(update={"identities": None}))
            except InputError as error:
                yield error, (*at, "path")
        if source.exclude is not None and known is not None:
            try:
                excluded_identities(name, source, known | _known_without_a_list(source))
            except InputError as error:
                yield error, (*at, "exclude")


def _known_without_a_list(source: RealSource) -> set[str]:
    """The identities of a source that come from no list: those of a package. A folder's own are hashes."""
    return {picture.identity for picture in held_out_pictures(source.package) if picture.identity} if source.package else set()


def _wrong_prompts(manifest: Manifest) -> Iterator[tuple[InputError, KeyPath]]:
    for name, subset in manifest.subsets.items():
        for number, part in enumerate(subset.parts):
            for position, step in enumerate(part.chain):
                if isinstance(step.prompts, Path):
                    try:
                        prompts_of(step)
                    except InputError as error:
                        yield error, ("subsets", name, "parts", number, "chain", position, "prompts")
