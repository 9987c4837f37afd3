"""Recipes by name: how detectors' training sets are made from reals, written out as the plain steps of a chain.

`{count: 1000, real: photos, recipe: dda, by: vqgan/vqgan-demo-32}` stands for a part with a chain. `ntf plan MANIFEST --expand` shows it.
What each recipe takes from its paper and what it chooses is in docs/recipes.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from generators import registry
from generators.errors import InputError
from pipelines.manifest import yaml_lines

Step = dict[str, Any]
OWN = ("recipe", "by", "parameters")  # the keys of a part that a recipe reads
HALF = 0.5


def _reconstruction(generator: str, checkpoint: str, real: str) -> Step:
    parameters = registry.get(generator).reconstruction
    if parameters is None:
        able = [name for name in registry.names() if registry.get(name).reconstruction is not None]
        raise ValueError(f"{generator} has no autoencoder to reconstruct with; those have one: {', '.join(able)}")
    return {"edit": generator, "checkpoint": checkpoint, "target": real, "repeat_targets": False, **parameters}


def _aligned(generator: str, checkpoint: str, real: str) -> Step:
    """Each real image through an autoencoder (Rajan et al., ICLR 2025)."""
    return _reconstruction(generator, checkpoint, real)


def _dda(generator: str, checkpoint: str, real: str) -> Step:
    """The same; then the real's own JPEG compression for half of them, and mixing with the real (Chen et al., NeurIPS 2025)."""
    mix = {"pixels": {"chance": 0.2, "real": [0.0, 0.8]}, "frequency": {"chance": 0.2, "real": [0.0, 0.8], "above": 0.25}}
    return {**_reconstruction(generator, checkpoint, real), "real_jpeg": HALF, "mix": mix}


def _drct(generator: str, checkpoint: str, real: str) -> Step:
    """Each real image noised to the middle of the schedule and denoised (Chen et al., ICML 2024)."""
    method = registry.get(generator)
    if "edit" not in method.kinds or "strength" not in method.Parameters.model_fields:
        able = [name for name in registry.names() if "edit" in registry.get(name).kinds and _denoises(name)]
        raise ValueError(f"{generator} does not noise and denoise an image; those do: {', '.join(able)}")
    safety = {"safety": "off"} if "safety" in method.Parameters.model_fields else {}
    return {"edit": generator, "checkpoint": checkpoint, "target": real, "repeat_targets": False, "strength": HALF, "steps": 50, **safety}


def _bfree(generator: str, checkpoint: str, real: str) -> Step:
    """Each real image painted anew inside a box, or as a whole by an empty mask; the background put back (Guillaro et al., CVPR 2025)."""
    method = registry.get(generator)
    if "inpaint" not in method.kinds:
        able = [name for name in registry.names() if "inpaint" in registry.get(name).kinds]
        raise ValueError(f"{generator} cannot inpaint; those can: {', '.join(able)}")
    mask = {"shape": "box", "area": [0.05, 0.5], "empty": HALF}
    safety = {"safety": "off"} if "safety" in method.Parameters.model_fields else {}
    step = {"inpaint": generator, "checkpoint": checkpoint, "target": real, "repeat_targets": False, "mask": mask, "keep": "exact"}
    return {**step, "strength": 1.0, "steps": 50, **safety}


def _rem(generator: str, checkpoint: str, real: str) -> Step:
    """Each real image through an autoencoder with noise on its latents (Liu et al., 2025)."""
    return {**_reconstruction(generator, checkpoint, real), "latent_noise": 0.1}


RECIPES: dict[str, Callable[[str, str, str], Step]] = {"aligned": _aligned, "dda": _dda, "drct": _drct, "bfree": _bfree, "rem": _rem}


def _denoises(name: str) -> bool:
    return "strength" in registry.get(name).Parameters.model_fields


def expanded(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a subset, as plain data, with the chain that its recipe stands for; as it is if it names none.

    `parameters` are put in place of the recipe's own and beside them. Raises ValueError in words for a recipe or generator that is not
    known, and for one that cannot do what the recipe asks.
    """
    if "recipe" not in part:
        return dict(part)
    name, by, given = part["recipe"], part.get("by"), part.get("parameters") or {}
    if not isinstance(name, str) or name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; known: {', '.join(RECIPES)}")
    if "chain" in part:
        raise ValueError("a part has a `chain` or a `recipe`, not both")
    if not isinstance(part.get("real"), str):
        raise ValueError(f"the recipe {name} needs `real: REAL_SOURCE`, of which it works on the images")
    generator, _, checkpoint = by.partition("/") if isinstance(by, str) else ("", "", "")
    if not generator or not checkpoint:
        raise ValueError(f"the recipe {name} needs `by: GENERATOR/CHECKPOINT`, which makes its images")
    if generator not in registry.names():
        raise ValueError(f"there is no generator {generator!r}; known: {', '.join(registry.names())}")
    if not isinstance(given, Mapping):
        raise ValueError("`parameters` are keys and values of the recipe's step, such as {steps: 20}")
    step = {**RECIPES[name](generator, checkpoint, part["real"]), **given}
    return {**{key: value for key, value in part.items() if key not in OWN}, "chain": [step]}


def written_out(file: Path) -> str:
    """A manifest's YAML with every recipe replaced by its chain. Comments are not kept. InputError for what `expanded` refuses."""
    data, _ = yaml_lines.load(file)
    subsets = data.get("subsets") if isinstance(data, Mapping) else None
    if not isinstance(subsets, Mapping):
        raise InputError(f"{file} has no subsets", "A manifest names them under `subsets`")
    try:
        plain = {name: _plain(subset) for name, subset in subsets.items()}
    except ValueError as error:
        raise InputError(f"{file}: {error}", "See docs/recipes.md") from None
    return yaml.safe_dump({**data, "subsets": plain}, sort_keys=False, width=140, allow_unicode=True, default_flow_style=None)


def _plain(subset: Any) -> Any:
    if not isinstance(subset, Mapping):
        return subset
    if isinstance(subset.get("parts"), list):
        return {**subset, "parts": [expanded(part) if isinstance(part, Mapping) else part for part in subset["parts"]]}
    return expanded(subset)
