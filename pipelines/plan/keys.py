"""All that decides a shard's pixels, and the key made of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foreign.folders import list_pictures
from foreign.lists import read_lines
from generators import registry
from generators.checkpoints import sha256_of_listing
from generators.errors import InputError
from generators.seeding import derive_seed, derive_seeds
from pipelines.catalogue.catalogue import Catalogue
from pipelines.catalogue.identity import cached_sha256s
from pipelines.manifest.chains import ChainStep, Part
from pipelines.manifest.deliveries import as_data as as_steps
from pipelines.manifest.deliveries import expanded
from pipelines.manifest.schema import CASCADE, Faces, Manifest
from pipelines.manifest.sizes import as_data
from pipelines.manifest.splits import SplitList
from pipelines.plan.pairs import Pairing, first_draws
from pipelines.plan.reals import RealImage, RealPool
from pipelines.plan.rules import picture_identity, prompt_identity
from pipelines.plan.shards import INTERMEDIATE_CODEC, Shard, image_split, part_seed

KEY_RECIPE = 1  # raise it when the meaning of the ingredients changes
IMPORT_VERSION = 1  # raise it when real images come out of the same files differently
DELIVERY_VERSION = 2  # raise it when a change of code changes what comes out of a step of a delivery
MASKS_VERSION = 1  # raise it when a change of code changes which pixels a mask has
ALIGNMENT_VERSION = 1  # raise it when a change of code changes how an image is brought nearer to its real
SWAPS_VERSION = 2  # raise it when a change of code changes what comes out: swaps made before become stale
LANDMARKS_VERSION = 1  # the same for the distances of landmarks, which detectors measure that see landmarks


def key_of(ingredients: dict[str, Any]) -> str:
    """The sha256 of the ingredients as canonical JSON, hex."""
    text = json.dumps({"recipe": KEY_RECIPE, **ingredients}, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def key_of_reals(manifest: Manifest, images: Sequence[RealImage]) -> str:
    """The key of a shard of real images."""
    ingredients = {
        "import": IMPORT_VERSION,
        "images": [[image.id, image.sha256, image.split] for image in images],
        "size": as_data(manifest.size, manifest.seed),
        "codec": manifest.codec.model_dump(mode="json"),
        **_compression(manifest),
        **picture_identity(manifest.filters),
    }
    return key_of(ingredients)


def key_of_delivered(clean: Shard, manifest: Manifest, name: str) -> str:
    """The key of a clean shard's delivery. Empty where that of the clean shard is not known."""
    if not clean.key:
        return ""
    steps = as_steps(expanded(manifest.deliveries[name]))
    return key_of({"delivery": name, "steps": steps, "version": DELIVERY_VERSION, "seed": manifest.seed, "inputs": [clean.key]})


def key_of_step(
    shard: Shard, manifest: Manifest, part: Part, common: dict[str, Any], pairings: Sequence[Pairing], pools: dict[str, RealPool]
) -> str:
    """The key of a shard of fakes. `part` is its part of the subset, `common` the ingredients that all shards of its step have
    (`step_ingredients`), and `pairings` are the draws of the steps of that part."""
    past = _past(shard, manifest, part, pools, pairings[0].splits) if shard.role == "final" and part.real in pools else {}
    # Subsets that begin at the same images have the same seeds; their rows are their own.
    subset = {"subset": shard.subset} if part.origin is not None else {}
    side = {"label": part.label} if part.label == "real" else {}  # no pixels, but what every row says
    refused = picture_identity(manifest.filters) if shard.role == "final" else {}
    return key_of(common | refused | _shard_ingredients(shard, manifest, part.chain[shard.step], pairings) | past | subset | side)


def step_ingredients(step: ChainStep, manifest: Manifest, catalogue: Catalogue) -> dict[str, Any]:
    """What decides pixels and is the same for all shards of a step. CheckpointError if a checkpoint is not here, or not the listed one."""
    return {
        "generator": step.generator,
        "output_version": registry.get(step.generator).output_version,
        "checkpoint": catalogue.identity(step.checkpoint),
        "kind": step.kind,
        "parameters": step.settings(),
        "prompts": prompts_of(step) if step.prompts is not None else None,
        **(prompt_identity(manifest.filters) if step.prompts is not None else {}),
        **({"faces": face_settings(manifest.faces, catalogue)} if step.uses_faces else {}),
        **(_mask(step) if step.mask is not None else {}),
        **({"alignment": {**step.alignment(), "version": ALIGNMENT_VERSION}} if step.is_aligned else {}),
    }


def face_settings(settings: Faces, catalogue: Catalogue) -> dict[str, Any]:
    """All that decides what a swapper is given and what becomes of its output, for the key of every shard of swaps and of restored faces.

    Whether a swapper needs aligning at all is known only once it is loaded, so swaps of "aligned" pictures have it in their keys too.
    """
    seen = {} if settings.detector == CASCADE else {"landmarks": LANDMARKS_VERSION}  # the cascade sees none
    return {
        "version": SWAPS_VERSION,
        **seen,
        **settings.model_dump(mode="json"),
        "networks": {key: catalogue.identity(name) for key, name in settings.networks},
    }


def _mask(step: ChainStep) -> dict[str, Any]:
    """Where a step reworks its images, and what becomes of the rest. InputError if a folder of masks is not there."""
    assert step.mask is not None
    spec, folder = step.mask.model_dump(mode="json", exclude={"folder", "empty"}), step.mask.folder
    spec |= {"empty": step.mask.empty} if step.mask.empty is not None else {}  # a later key: masks without it keep theirs
    if folder is not None and not folder.is_dir():
        raise InputError(f"there is no folder of masks {folder}", "Put the masks there, or change `mask`")
    return {"mask": {**spec, "folder": _pictures_of(folder) if folder is not None else None}, "keep": step.keep, "masks": MASKS_VERSION}


def _pictures_of(folder: Path) -> str:
    """The sha256 of the names and the contents of the pictures in a folder of masks. InputError if there are none."""
    files = sorted(list_pictures(folder).files)
    if not files:
        raise InputError(f"the folder of masks {folder} has no pictures", "Put a mask there for each real image, under its name")
    names = [file.relative_to(folder).as_posix() for file in files]
    return sha256_of_listing(dict(zip(names, cached_sha256s(files), strict=True)))


def prompts_of(step: ChainStep) -> list[str]:
    """The prompts of a step: the list in the manifest, or the non-empty lines of its file. InputError if there are none."""
    if not isinstance(step.prompts, Path):
        return list(step.prompts or ())
    return [line for _, line in read_lines(step.prompts, "the prompts")]


def drawn_donor(manifest: Manifest, subset: str, real: str, part: int, index: int, pools: dict[str, RealPool]) -> RealImage | None:
    """The real image whose past a final image gets where its chain does not begin with a real one. None if its split has no image."""
    seed = derive_seed(part_seed(manifest, subset, real, part), index, "parity")
    return next(pools[real].around(seed, image_split(manifest, subset, real, part, index)), None)


def _shard_ingredients(shard: Shard, manifest: Manifest, step: ChainStep, pairings: Sequence[Pairing]) -> dict[str, Any]:
    """What decides the pixels of one shard of a step, but for the past.

    The draws are those of the first attempt: a replacement is drawn from the same pool, and the chain of its row names what was drawn.
    """
    draws_reals = step.source is not None or step.target is not None
    draws = first_draws(pairings[: shard.step + 1], shard.start, shard.stop) if draws_reals else []
    final = shard.role == "final"
    return {
        "seeds": [part_seed(manifest, shard.subset, shard.real, shard.part), shard.step, shard.start, shard.stop],
        "inputs": list(shard.inputs),
        # They change no pixel, but every row has its split, and the rows of one version must be split by the same rule.
        "splits": pairings[0].splits[shard.start : shard.stop],
        "draws": [{role: image.sha256 for role, image in drawn.items()} for drawn in draws],
        # An intermediate image stays as its generator made it; only the last step is brought to the dataset's size and codec.
        "size": as_data(manifest.size, manifest.seed) if final else None,
        "codec": (manifest.codec if final else INTERMEDIATE_CODEC).model_dump(mode="json"),
    }


def _compression(manifest: Manifest) -> dict[str, Any]:
    """What the manifest says of a compression that reals and fakes alike go through, for the keys of both: ids and the seed draw it."""
    wanted = manifest.parity.recompress
    return {"recompress": [wanted.model_dump(mode="json"), manifest.seed]} if wanted else {}


def _past(shard: Shard, manifest: Manifest, part: Part, pools: dict[str, RealPool], splits: SplitList) -> dict[str, Any]:
    """What decides the past that a shard's final images are given: their donors (`drawn_donor`). Where a chain begins with a real image,
    that is its donor. `splits` are those of the part's images."""
    if not manifest.parity.inherits:
        return _compression(manifest)
    donors: list[RealImage | None] = []
    if not part.chain[0].target:
        seeds = derive_seeds((part_seed(manifest, shard.subset, shard.real, shard.part),), range(shard.start, shard.stop), ("parity",))
        donors = pools[shard.real].nearest(seeds, splits.part(shard.start, shard.stop))
    given = manifest.parity.model_dump(mode="json", include={"jpeg", "sizes"})
    return {"parity": given, "donors": [donor and donor.sha256 for donor in donors], **_compression(manifest)}
