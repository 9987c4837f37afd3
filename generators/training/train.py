"""`train_generator`: a small generator from the pictures of the demo, or from a folder of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

from generators.demo.pictures import SIZE, Collection, Picture, held_out_pictures, pictures_in, training_pictures
from generators.errors import InputError
from generators.seeding import derive_seed
from generators.training.cards import write_card
from generators.training.loop import Progress, Run, Trainer, fit


@dataclass(frozen=True)
class Recipe:
    """Where a trainer is (`module:class`), the demo's pictures for it, and how long the demo's checkpoint was trained. `doubles` says that
    the network reaches the images' size by doublings of 4 px."""

    trainer: str
    collection: Collection
    steps: int
    doubles: bool = False

    def build(self, size: int, pictures: Sequence[Picture]) -> Trainer:
        module, name = self.trainer.split(":")
        return getattr(import_module(f"generators.training.{module}"), name)(size, pictures)


RECIPES = {
    "stylegan2": Recipe("gan.stylegan2:StyleGAN2Trainer", "faces", 3000, doubles=True),
    "progan": Recipe("gan.progan:ProGANTrainer", "faces", 4000, doubles=True),
    "diff_stylegan2": Recipe("gan.diff_stylegan2:DiffStyleGAN2Trainer", "faces", 2000, doubles=True),
    "projected_gan": Recipe("gan.projected_gan:ProjectedGANTrainer", "faces", 2000, doubles=True),
    "vqgan": Recipe("vqgan:VQGANTrainer", "faces", 3600),
    "ddpm": Recipe("diffusion.ddpm:DDPMTrainer", "photos", 16000),
    "ldm": Recipe("diffusion.ldm:LDMTrainer", "faces", 6000),
    "stable_diffusion": Recipe("diffusion.stable_diffusion:StableDiffusionTrainer", "photos", 2600),
    "diffface": Recipe("faces.diffface:DiffFaceTrainer", "faces", 4000),
    "simswap": Recipe("faces.simswap:SimSwapTrainer", "faces", 4000, doubles=True),
}


def train_generator(
    name: str,
    output: Path,
    folder: Path | None = None,
    *,
    steps: int | None = None,
    seed: int = 0,
    size: int = SIZE,
    work: Path | None = None,
    save_every: int = 250,
    on_progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Trains the generator `name` (one of RECIPES) and writes `output` (`.safetensors`) and its model card (`.md`).

    `folder` holds the images to learn from; without it, the demo's own pictures are used. `size` is the images' side in pixels, a multiple
    of 8, and a power of two for a recipe that `doubles`. `work` (default: `output` without its suffix, with "-training" after it) keeps
    the state, so that the same call takes a stopped run up again, and sample sheets. Raises InputError for a name, size, folder or number
    of steps that cannot be trained.
    """
    if name not in RECIPES:
        raise InputError(f"there is no training of {name!r}", f"Known: {', '.join(RECIPES)}")
    if size % 8 or size < 16:
        raise InputError(f"cannot train at {size} px", "Give a multiple of 8, at least 16")
    if output.suffix != ".safetensors":
        raise InputError(f"{output} is not named as a safetensors file", "Give a name that ends in .safetensors")
    if steps is not None and steps < 1:
        raise InputError(f"cannot train for {steps} steps", "Give at least 1")
    recipe = RECIPES[name]
    if recipe.doubles and size & (size - 1):
        raise InputError(f"cannot train {name} at {size} px", "Its network doubles 4 px: give a power of two, such as 32 or 64")
    if folder is None and size != SIZE:
        raise InputError(f"the demo's pictures are for {SIZE} px, not {size}", "Give a folder of your own")
    pictures = training_pictures(recipe.collection) if folder is None else pictures_in(folder, size)
    work = work or output.with_name(output.stem + "-training")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, name, "weights"))
        trainer = recipe.build(size, pictures)
    run = fit(
        trainer, pictures, output, work, steps=steps or recipe.steps, seed=seed, size=size, save_every=save_every, on_progress=on_progress
    )
    unseen = held_out_pictures(recipe.collection) if folder is None else pictures
    collection = recipe.collection if folder is None else None
    write_card(run, pictures, name=name, seed=seed, size=size, collection=collection, facts=trainer.facts(unseen))
    return run
