"""How an image is made: generators by name, their networks, and the safe reading of their checkpoints.

from generators import load

load("stylegan2", "stylegan2.pkl").sample(seeds=[0, 1, 2])   # uint8 RGB [3, H, W, 3]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generators.base import Generator


def load(
    name: str,
    checkpoint: str | Path,
    device: str = "cpu",
    *,
    components: Mapping[str, str | Path] | None = None,
    **options: Any,
) -> Generator:
    """The generator `name` (`ntf generators` lists them) with the weights at `checkpoint`, a file or a folder, ready to make images.

    `components` are the paths of further checkpoints that it needs, by role (`arcface`), and `options` those of the checkpoint, as a
    manifest has them (`precision="float16"`). What it can do is in its `kinds`: `sample(seeds)`, `prompt(prompts, seeds)`,
    `swap(sources, targets, seeds)`, `edit(images, seeds)`, `inpaint(images, masks, seeds)`, each with the method's own parameters.

    Raises InputError for a name or option that is not known, and CheckpointError (which is one) for a file that is not there or not what
    the generator needs.
    """
    from generators.checkpoints import Checkpoint
    from generators.errors import CheckpointError
    from generators.loading import load_generator

    paths = {"": Path(checkpoint), **{role: Path(path) for role, path in (components or {}).items()}}
    for path in paths.values():
        if not path.exists():
            raise CheckpointError(f"there is no checkpoint {path}", "Check the path; `ntf fetch` gets the known ones")
    parts = {role: Checkpoint(path) for role, path in paths.items() if role}
    return load_generator(name, Checkpoint(paths[""], options, parts), device)
