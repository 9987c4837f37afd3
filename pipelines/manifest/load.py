"""Reading a manifest. It is checked whole before any work starts, and every complaint names the line, the key and what would be right."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from generators import registry
from generators.errors import InputError
from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry
from pipelines.manifest import origins
from pipelines.manifest.bounds import too_many_images
from pipelines.manifest.chains import ON_IMAGES, ChainStep, Part
from pipelines.manifest.outside import outside_paths
from pipelines.manifest.publication import Publication
from pipelines.manifest.schema import CASCADE, AuditPolicy, Codec, DetectorPolicy, Faces, Filters, Manifest, Parity, RealSource, Splits
from pipelines.manifest.yaml_lines import KeyPath, Misread, line_of, read

# What stands under a key of the manifest, so that a misspelt key in it can be told from those that it has.
SECTIONS: dict[str, type[BaseModel]] = {
    "reals": RealSource,
    "subsets": Part,
    "checkpoints": CheckpointEntry,
    "codec": Codec,
    "splits": Splits,
    "faces": Faces,
    "parity": Parity,
    "filters": Filters,
    "audit": AuditPolicy,
    "detector": DetectorPolicy,
    "publish": Publication,
}
SHIPPED = Path(str(resources.files("manifests"))).resolve()
PLACEHOLDERS: dict[str, Any] = {"dataset": "unnamed", "size": 32}  # for looking at the rest of a manifest where these are wrong


@dataclass(frozen=True)
class Known:
    """The names that the file gives to real sources and checkpoints, those that are themselves wrong included."""

    reals: Collection[str]
    checkpoints: Collection[str]


@dataclass(frozen=True)
class Checked:
    """A manifest that was read: everything that is wrong with it, what is to be fixed first coming first, and the line of each key.

    `manifest` is what can be understood of it; None if that is too little to go on with.
    """

    path: Path
    manifest: Manifest | None
    problems: tuple[Misread, ...]
    lines: Mapping[KeyPath, int]

    def problem(self, message: str, fix: str, at: KeyPath) -> Misread:
        """The error for something that is wrong at a key path."""
        line = line_of(self.lines, _as_written(at, self.lines))
        return Misread(f"{self.path}, line {line}: {message}", fix, at, line)


def load_manifest(path: Path, catalogue: Catalogue | None = None) -> Manifest:
    """Reads and checks a manifest. Raises InputError with the first thing that is wrong: file, line, key, fix.

    Paths in the manifest are relative to its folder, or to the current one (`_place`), and do not leave them (`outside`).

    `catalogue` is where checkpoints that the manifest does not describe itself are looked
    up; by default the one that ships with the project.
    """
    checked = check_manifest(path, catalogue)
    if checked.problems:
        raise checked.problems[0]
    assert checked.manifest is not None
    return checked.manifest


def check_manifest(path: Path, catalogue: Catalogue | None = None) -> Checked:
    """Reads a manifest and finds everything that is wrong with it. Raises InputError if the file is no YAML mapping at all."""
    data, lines, misread = read(path)
    if not isinstance(data, Mapping):
        raise InputError(f"{path} is empty or no mapping", "A manifest begins with `dataset: NAME`")
    data = _absolute_paths(data, path.parent)
    manifest, problems = None, list(misread)
    rest: dict[str, Any] | None = data
    while rest is not None and manifest is None:
        try:
            manifest = Manifest.model_validate(rest)
        except ValidationError as error:
            entries = error.errors()
            problems += _explained(entries, path, lines, {problem.at for problem in problems})
            rest = _without(rest, [entry["loc"] for entry in entries])
    checked = Checked(path, manifest, tuple(problems), lines)
    for at, file in outside_paths(data, path.parent):
        message = f"{'.'.join(map(str, _as_written(at, lines)))} leads out of the manifest's folder, to {file}"
        leads_out = checked.problem(message, "Move it there, or allow it with `--allow-outside`, if you trust the manifest", at)
        checked = replace(checked, problems=(*checked.problems, leads_out))
    if manifest is not None:
        catalogue = (catalogue or Catalogue.shipped()).joined(manifest.checkpoints)
        known = Known({**_section(data, "reals")}.keys(), catalogue.entries.keys() | _section(data, "checkpoints").keys())
        wrong = {problem.at for problem in problems}
        for problem, fix, at in _impossible(manifest, catalogue, known):
            if not _stands_under(_as_written(at, lines), wrong):
                checked = replace(checked, problems=(*checked.problems, checked.problem(problem, fix, at)))
    return checked


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = data.get(name)
    return section if isinstance(section, Mapping) else {}


def _without(data: Mapping[str, Any], wrong: Sequence[KeyPath]) -> dict[str, Any] | None:
    """The data without what is wrong, for looking at the rest: whole subsets, real sources and checkpoints go, and other sections whole.

    None if that is no manifest any more, or nothing would go.
    """
    out = {**PLACEHOLDERS, **data}
    for at in wrong:
        section = str(at[0]) if at else ""
        if len(at) > 1 and section in ("subsets", "reals", "checkpoints") and isinstance(out.get(section), Mapping):
            out[section] = {name: entry for name, entry in out[section].items() if name != at[1]}
        elif section in PLACEHOLDERS:
            out[section] = PLACEHOLDERS[section]
        else:
            out.pop(section, None)
    return out if out != data and out.get("subsets") and "reals" in out else None


def _stands_under(at: KeyPath, places: Collection[KeyPath]) -> bool:
    return any(at[:length] in places for length in range(1, len(at) + 1))


def _absolute_paths(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same data with the paths of real sources, prompts and checkpoint files absolute; `_place` says how they are looked up."""
    out = dict(data)
    for section, keys in (("reals", ("path", "identities", "exclude")), ("checkpoints", ("file",)), ("filters", ("file",))):
        entries = out.get(section)
        if isinstance(entries, Mapping):
            out[section] = {name: _resolved(entry, keys, folder) for name, entry in entries.items()}
    if isinstance(out.get("subsets"), Mapping):
        out["subsets"] = {name: _resolve_prompts(subset, folder) for name, subset in out["subsets"].items()}
    return out


def _resolved(entry: Any, keys: tuple[str, ...], folder: Path) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    return {key: str(_place(value, folder)) if key in keys and isinstance(value, str) else value for key, value in entry.items()}


def _place(written: str, folder: Path) -> Path:
    """Where a path of a manifest leads: beside the manifest if it is there, or else from the current folder.

    What is in neither is looked for beside the manifest; if that one ships with the project, in the current folder.
    """
    try:
        beside, current = (folder / written).resolve(), Path(written).resolve()
        if beside.exists():
            return beside
        return current if current.exists() or folder.resolve() == SHIPPED else beside
    except (OSError, ValueError, RuntimeError):  # a NUL, a name that is too long, links in a circle: whoever opens it says so
        return folder / written


def _resolve_prompts(subset: Any, folder: Path) -> Any:
    if isinstance(subset, Mapping):
        if isinstance(subset.get("parts"), list):
            return {**subset, "parts": [_resolve_prompts(part, folder) for part in subset["parts"]]}
        if isinstance(subset.get("chain"), list):
            return {**subset, "chain": [_resolve_mask(_resolved(step, ("prompts",), folder), folder) for step in subset["chain"]]}
    return subset


def _resolve_mask(step: Any, folder: Path) -> Any:
    if isinstance(step, Mapping) and "inpaint" in step and isinstance(step.get("mask"), Mapping):
        return {**step, "mask": _resolved(step["mask"], ("folder",), folder)}
    return step


def _impossible(manifest: Manifest, catalogue: Catalogue, known: Known) -> Iterator[tuple[str, str, KeyPath]]:
    """What pydantic cannot see: too many images, names that lead nowhere, chains that cannot be run. Problem, fix, key path."""
    yield from too_many_images(manifest)
    for key, network in manifest.faces.networks:
        if network not in known.checkpoints:
            fitting = {*known.checkpoints, *([CASCADE] if key == "detector" else [])}
            yield f"faces: there is no checkpoint {network!r} for the {key}", _suggest(network, fitting), ("faces", key)
    if manifest.parity.reconstruct is not None:
        generator, _, checkpoint = manifest.parity.reconstruct.partition("/")
        able = [name for name in registry.names() if registry.get(name).reconstruction is not None]
        if generator not in able:
            yield (
                f"parity: {generator} has no autoencoder to reconstruct with",
                f"Those have one: {', '.join(able)}",
                ("parity", "reconstruct"),
            )
        elif checkpoint not in known.checkpoints:
            yield f"parity: there is no checkpoint {checkpoint!r}", _suggest(checkpoint, known.checkpoints), ("parity", "reconstruct")
    for name, subset in manifest.subsets.items():
        seen: Counter[str] = Counter()
        for number, part in enumerate(subset.parts):
            at: KeyPath = ("subsets", name, "parts", number)
            if part.real not in known.reals:
                yield f"subset {name}: there is no real source {part.real!r}", _suggest(part.real, known.reals), (*at, "real")
            faults = list(origins.faults(manifest.subsets, name, part, seen[part.real]))
            seen[part.real] += 1
            yield from ((problem, fix, (*at, "chain", 0, "from")) for problem, fix in faults)
            parsers = [step for step in part.chain if step.mask is not None and step.mask.face is not None]
            if parsers and manifest.faces.parsing is None:
                yield f"subset {name}: a mask of a face needs a face parser", "Name one as `parsing` under `faces`", (*at, "chain")
            for place, step in enumerate(part.chain[part.inherited :]):
                position = part.inherited + place + (1 if part.origin and not part.inherited else 0)
                yield from _impossible_step(step, position, known, catalogue, name, (*at, "chain", place))


def _impossible_step(
    step: ChainStep, position: int, known: Known, catalogue: Catalogue, subset: str, at: KeyPath
) -> Iterator[tuple[str, str, KeyPath]]:
    if step.generator not in registry.names():
        yield f"subset {subset}: there is no generator {step.generator!r}", _suggest(step.generator, registry.names()), (*at, step.kind)
        return
    method = registry.get(step.generator)
    if step.kind not in method.kinds:
        yield f"subset {subset}: {step.generator} cannot {step.kind}", f"It can {' or '.join(method.kinds)}", (*at, step.kind)
    if step.checkpoint not in known.checkpoints:
        yield (
            f"subset {subset}: there is no checkpoint {step.checkpoint!r}",
            _suggest(step.checkpoint, known.checkpoints),
            (*at, "checkpoint"),
        )
    elif step.checkpoint in catalogue.entries and (
        (owner := catalogue.entries[step.checkpoint].generators) and step.generator not in owner
    ):
        yield (
            f"subset {subset}: {step.checkpoint} is a checkpoint of {', '.join(owner)}, not of {step.generator}",
            "Name another",
            (*at, "checkpoint"),
        )
    else:
        yield from _wrong_options(step, catalogue, at)
    try:
        method.parse_parameters(step.parameters)
    except InputError as error:
        yield str(error).rstrip("."), "", at
    works_on_input = step.kind in ON_IMAGES
    if position == 0 and works_on_input and step.target is None:
        yield f"subset {subset}: the chain begins with `{step.kind}`, which has nothing to work on", "Give it `target: REAL_SOURCE`", at
    if (position > 0) and (not works_on_input or step.target is not None):
        yield (
            f"subset {subset}: step {position + 1} does not work on the image of the step before it",
            "Use a swap, an edit or an inpaint, without `target`",
            at,
        )
    if (step.kind == "swap") != (step.source is not None):
        yield f"subset {subset}: a swap needs `source: REAL_SOURCE`, and no other step takes one", "Add or remove it", at
    if (step.kind == "prompt") != (step.prompts is not None):
        yield f"subset {subset}: a prompt step needs `prompts`, and no other step takes them", "Add or remove them", at
    yield from _unknown_reals(step, known, subset, at)


def _unknown_reals(step: ChainStep, known: Known, subset: str, at: KeyPath) -> Iterator[tuple[str, str, KeyPath]]:
    if step.kind == "inpaint" and step.mask is None:
        yield f"subset {subset}: an inpaint step needs a `mask`", "Such as `mask: box`", at
    for role in ("source", "target"):
        named = getattr(step, role)
        if named is not None and named not in known.reals:
            yield f"subset {subset}: there is no real source {named!r}", _suggest(named, known.reals), (*at, role)


def _wrong_options(step: ChainStep, catalogue: Catalogue, at: KeyPath) -> Iterator[tuple[str, str, KeyPath]]:
    """What is wrong with the options of a step's checkpoint."""
    if step.checkpoint in catalogue.entries:
        try:
            registry.get(step.generator).parse_options(catalogue.entries[step.checkpoint].options)
        except InputError as error:
            yield f"checkpoint {step.checkpoint}: {error.message}", error.fix, (*at, "checkpoint")


def _suggest(wrong: str, known: Any) -> str:
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known)) or 'none'}"


def _explained(entries: Sequence[Any], path: Path, lines: Mapping[KeyPath, int], wrong: Collection[KeyPath]) -> list[Misread]:
    """pydantic's complaints, each as one line that names the file, the line and the key, with the fix.

    What stands under a key path of `wrong` has been said already. A value that fits none of several types is several complaints of
    pydantic's, and a misspelt key is two, an unknown key and a missing one: the first of them is the one to fix.
    """
    # A list whose only item is wrong is too short for pydantic as well.
    hollow = {
        entry["loc"]
        for entry in entries
        if entry["type"] == "too_short"
        and any(other is not entry and other["loc"][: len(entry["loc"])] == entry["loc"] for other in entries)
    }
    ordered = sorted(
        (entry for entry in entries if entry["type"] != "too_short" or entry["loc"] not in hollow),
        key=lambda entry: entry["type"] != "extra_forbidden",
    )
    said, problems = set(wrong), []
    misspelt = {entry["loc"] for entry in ordered if entry["type"] == "extra_forbidden"}
    for entry in ordered:
        at = _as_written(tuple(key for key in entry["loc"] if key != "[key]"), lines)
        place = next(at[:length] for length in range(len(at), -1, -1) if at[:length] in lines or not length)
        absent = entry["type"] == "missing" or place != at
        if _stands_under(at if absent else place, said) or (
            entry["type"] == "missing" and any(loc[:-1] == entry["loc"][:-1] and _are_close(loc[-1], entry["loc"][-1]) for loc in misspelt)
        ):
            continue
        said.add(at if entry["type"] == "missing" else place or at)
        problems.append(_explain(entry, at if absent and entry["type"] == "missing" else place or at, path, lines))
    return problems


def _are_close(written: Any, right: Any) -> bool:
    return bool(difflib.get_close_matches(str(written), [str(right)]))


def _explain(entry: Any, at: KeyPath, path: Path, lines: Mapping[KeyPath, int]) -> Misread:
    line = line_of(lines, at)
    place = f"{path}, line {line}"
    title = ".".join(map(str, at)) or "the manifest"
    if entry["type"] == "extra_forbidden":
        model = Manifest if len(at) == 1 else SECTIONS.get(str(at[0]))
        return Misread(f"{place}: unknown key {title}", _suggest(str(at[-1]), model.model_fields) if model else "", at, line)
    message = entry["msg"].removeprefix("Value error, ")
    value = entry.get("input")
    fix = "Add it" if entry["type"] == "missing" else "" if isinstance(value, Mapping) else f"Found {value!r}"
    return Misread(f"{place}: {title}: {message[:1].lower()}{message[1:]}", fix, at, line)


def _as_written(at: KeyPath, lines: Mapping[KeyPath, int]) -> KeyPath:
    """A key path as the file has it: a subset with one part can be written without `parts`, and a chain can begin with `from`, which
    counts in the file and not in the chain."""
    without = at[:1] == ("subsets",) and at[2:3] == ("parts",) and at[:3] not in lines
    at = (*at[:2], *at[4:]) if without else at
    chain = at.index("chain") if at[:1] == ("subsets",) and "chain" in at[2:] else len(at)
    if len(at) > chain + 1 and at[chain + 2 : chain + 3] != ("from",) and (*at[: chain + 1], 0, "from") in lines:
        return (*at[: chain + 1], int(at[chain + 1]) + 1, *at[chain + 2 :])
    return at
