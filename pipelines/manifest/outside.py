"""Whether a manifest may name a file: those in its own folder, in the current folder if the manifest is in it too, and in allowed ones.

A manifest can come from a stranger. One with `prompts: /etc/passwd` would put that file's lines into the dataset.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pipelines.manifest.yaml_lines import KeyPath

VARIABLE = "NTF_ALLOW_OUTSIDE"  # "1" for every folder, or folders with `:` between them
KEYS = {"reals": ("path", "identities", "exclude"), "checkpoints": ("file",), "filters": ("file",)}


def outside_paths(data: Mapping[str, Any], folder: Path) -> Iterator[tuple[KeyPath, Path]]:
    """Key path and file of what a manifest in `folder` names and may not; `data` has its paths resolved, links included."""
    allowed = _allowed(folder)
    if allowed is None:
        return
    for at, value in _named_paths(data):
        path = Path(value)
        if not any(path.is_relative_to(root) for root in allowed):
            yield at, path


def _allowed(folder: Path) -> list[Path] | None:
    """The folders that files may lie in; None for all."""
    given = os.environ.get(VARIABLE, "")
    own = folder.resolve()
    if given == "1" or own == Path(str(resources.files("manifests"))).resolve():  # the manifests that ship are ours
        return None
    current = Path.cwd()
    project = [current] if own.is_relative_to(current) else []  # a manifest of the project that one is working in
    return [own, *project, *(Path(root).resolve() for root in given.split(os.pathsep) if root)]


def _named_paths(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    for section, keys in KEYS.items():
        for name, entry in _items(data.get(section)):
            yield from (
                ((section, name, key), entry[key]) for key in keys if isinstance(entry, Mapping) and isinstance(entry.get(key), str)
            )
    for name, subset in _items(data.get("subsets")):
        parts = subset.get("parts", [subset]) if isinstance(subset, Mapping) else []
        for number, part in enumerate(parts if isinstance(parts, list) else []):
            chain = part.get("chain") if isinstance(part, Mapping) else None
            for position, step in enumerate(chain if isinstance(chain, list) else []):
                if not isinstance(step, Mapping):
                    continue
                at: KeyPath = ("subsets", name, "parts", number, "chain", position)
                if isinstance(step.get("prompts"), str):
                    yield (*at, "prompts"), step["prompts"]
                mask = step.get("mask")
                if isinstance(mask, Mapping) and isinstance(mask.get("folder"), str):
                    yield (*at, "mask", "folder"), mask["folder"]


def _items(section: Any) -> list[tuple[str, Any]]:
    return list(section.items()) if isinstance(section, Mapping) else []
