"""Reading a manifest. It is checked whole before any work starts, and every complaint names the line, the key and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from generators import registry
from generators.errors import InputError
from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry
from pipelines.manifest.schema import (
    CASCADE,
    AuditPolicy,
    ChainStep,
    Codec,
    DetectorPolicy,
    Faces,
    Manifest,
    Parity,
    Part,
    RealSource,
    Splits,
)
from pipelines.manifest.yaml_lines import KeyPath, line_of
from pipelines.manifest.yaml_lines import load as load_with_lines

# What stands under a key of the manifest, so that a misspelt key in it can be told from those that it has.
SECTIONS: dict[str, type[BaseModel]] = {
    "reals": RealSource,
    "subsets": Part,
    "checkpoints": CheckpointEntry,
    "codec": Codec,
    "splits": Splits,
    "faces": Faces,
    "parity": Parity,
    "audit": AuditPolicy,
    "detector": DetectorPolicy,
}


def load_manifest(path: Path, catalogue: Catalogue | None = None) -> Manifest:
    """Reads and checks a manifest. Raises InputError with the first thing that is wrong: file, line, key, fix.

    Paths in the manifest are relative to its folder. `catalogue` is where checkpoints that the manifest does not describe itself are looked
    up; by default the one that ships with the project.
    """
    data, lines = load_with_lines(path)
    if not isinstance(data, Mapping):
        raise InputError(f"{path} is empty or no mapping", "A manifest begins with `dataset: NAME`")
    try:
        manifest = Manifest.model_validate(_absolute_paths(data, path.parent))
    except ValidationError as error:
        raise _explain(error, path, lines) from None
    catalogue = (catalogue or Catalogue.shipped()).joined(manifest.checkpoints)
    for problem, fix, at in _impossible(manifest, catalogue):
        raise InputError(f"{path}, line {line_of(lines, _as_written(at, lines))}: {problem}", fix)
    return manifest


def _absolute_paths(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same data with the paths of real sources, prompts and checkpoint files resolved against the manifest's folder."""
    out = dict(data)
    for section, keys in (("reals", ("path", "identities", "exclude")), ("checkpoints", ("file",))):
        entries = out.get(section)
        if isinstance(entries, Mapping):
            out[section] = {name: _resolved(entry, keys, folder) for name, entry in entries.items()}
    if isinstance(out.get("subsets"), Mapping):
        out["subsets"] = {name: _resolve_prompts(subset, folder) for name, subset in out["subsets"].items()}
    return out


def _resolved(entry: Any, keys: tuple[str, ...], folder: Path) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    return {key: str((folder / value).resolve()) if key in keys and isinstance(value, str) else value for key, value in entry.items()}


def _resolve_prompts(subset: Any, folder: Path) -> Any:
    if isinstance(subset, Mapping):
        if isinstance(subset.get("parts"), list):
            return {**subset, "parts": [_resolve_prompts(part, folder) for part in subset["parts"]]}
        if isinstance(subset.get("chain"), list):
            return {**subset, "chain": [_resolved(step, ("prompts",), folder) for step in subset["chain"]]}
    return subset


def _impossible(manifest: Manifest, catalogue: Catalogue) -> Iterator[tuple[str, str, KeyPath]]:
    """What pydantic cannot see: names that lead nowhere and chains that cannot be run. Problem, fix, key path."""
    for key, network in manifest.faces.networks:
        if network not in catalogue.entries:
            known = {*catalogue.entries, *([CASCADE] if key == "detector" else [])}
            yield f"faces: there is no checkpoint {network!r} for the {key}", _suggest(network, known), ("faces", key)
    if manifest.parity.reconstruct is not None:
        generator, _, checkpoint = manifest.parity.reconstruct.partition("/")
        able = [name for name in registry.names() if registry.get(name).reconstruction is not None]
        if generator not in able:
            yield (
                f"parity: {generator} has no autoencoder to reconstruct with",
                f"Those have one: {', '.join(able)}",
                ("parity", "reconstruct"),
            )
        elif checkpoint not in catalogue.entries:
            yield f"parity: there is no checkpoint {checkpoint!r}", _suggest(checkpoint, catalogue.entries), ("parity", "reconstruct")
    for name, subset in manifest.subsets.items():
        for number, part in enumerate(subset.parts):
            at: KeyPath = ("subsets", name, "parts", number)
            if part.real not in manifest.reals:
                yield f"subset {name}: there is no real source {part.real!r}", _suggest(part.real, manifest.reals), (*at, "real")
            for position, step in enumerate(part.chain):
                yield from _impossible_step(step, position, manifest, catalogue, name, (*at, "chain", position))


def _impossible_step(
    step: ChainStep, position: int, manifest: Manifest, catalogue: Catalogue, subset: str, at: KeyPath
) -> Iterator[tuple[str, str, KeyPath]]:
    if step.generator not in registry.names():
        yield f"subset {subset}: there is no generator {step.generator!r}", _suggest(step.generator, registry.names()), (*at, step.kind)
        return
    method = registry.get(step.generator)
    if step.kind not in method.kinds:
        yield f"subset {subset}: {step.generator} cannot {step.kind}", f"It can {' or '.join(method.kinds)}", (*at, step.kind)
    if step.checkpoint not in catalogue.entries:
        yield (
            f"subset {subset}: there is no checkpoint {step.checkpoint!r}",
            _suggest(step.checkpoint, catalogue.entries),
            (*at, "checkpoint"),
        )
    elif (owner := catalogue.entries[step.checkpoint].generators) and step.generator not in owner:
        yield (
            f"subset {subset}: {step.checkpoint} is a checkpoint of {', '.join(owner)}, not of {step.generator}",
            "Name another",
            (*at, "checkpoint"),
        )
    try:
        method.parse_parameters(step.parameters)
    except InputError as error:
        yield str(error).rstrip("."), "", at
    works_on_input = step.kind in ("swap", "edit")
    if position == 0 and works_on_input and step.target is None:
        yield f"subset {subset}: the chain begins with `{step.kind}`, which has nothing to work on", "Give it `target: REAL_SOURCE`", at
    if (position > 0) and (not works_on_input or step.target is not None):
        yield (
            f"subset {subset}: step {position + 1} does not work on the image of the step before it",
            "Use a swap or an edit, without `target`",
            at,
        )
    if (step.kind == "swap") != (step.source is not None):
        yield f"subset {subset}: a swap needs `source: REAL_SOURCE`, and no other step takes one", "Add or remove it", at
    if (step.kind == "prompt") != (step.prompts is not None):
        yield f"subset {subset}: a prompt step needs `prompts`, and no other step takes them", "Add or remove them", at
    for role in ("source", "target"):
        named = getattr(step, role)
        if named is not None and named not in manifest.reals:
            yield f"subset {subset}: there is no real source {named!r}", _suggest(named, manifest.reals), (*at, role)


def _suggest(wrong: str, known: Any) -> str:
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known)) or 'none'}"


def _explain(error: ValidationError, path: Path, lines: dict[KeyPath, int]) -> InputError:
    """pydantic's first complaint as one line that names the file, the line and the key, with the fix."""
    # A misspelt key is two errors, an unknown key and a missing one: the one to fix is the first.
    first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    at = _as_written(tuple(key for key in first["loc"] if key != "[key]"), lines)
    place = f"{path}, line {line_of(lines, at)}"
    title = ".".join(map(str, at))
    if first["type"] == "extra_forbidden":
        model = Manifest if len(at) == 1 else SECTIONS.get(str(at[0]))
        return InputError(f"{place}: unknown key {title}", _suggest(str(at[-1]), model.model_fields) if model else "")
    message = first["msg"].removeprefix("Value error, ")
    value = first.get("input")
    fix = "Add it" if first["type"] == "missing" else "" if isinstance(value, Mapping) else f"Found {value!r}"
    return InputError(f"{place}: {title}: {message[:1].lower()}{message[1:]}", fix)


def _as_written(at: KeyPath, lines: dict[KeyPath, int]) -> KeyPath:
    """A key path as the file has it: a subset with one part can be written without `parts`."""
    without = at[:1] == ("subsets",) and at[2:3] == ("parts",) and at[:3] not in lines
    return (*at[:2], *at[4:]) if without else at
