"""Every trainer, tiny: it saves, takes up again to the bit, and its checkpoint loads and makes images."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from generators import registry
from generators.checkpoints import Checkpoint, read
from generators.demo.pictures import Picture
from generators.errors import InputError
from generators.seeding import numpy_rng
from generators.training.diffusion.ddpm import DDPMTrainer
from generators.training.diffusion.ldm import LDMTrainer
from generators.training.diffusion.stable_diffusion import StableDiffusionTrainer
from generators.training.faces import diffface
from generators.training.faces.diffface import DiffFaceTrainer
from generators.training.faces.simswap import SimSwapTrainer
from generators.training.gan.diff_stylegan2 import DiffStyleGAN2Trainer
from generators.training.gan.progan import ProGANTrainer
from generators.training.gan.projected_gan import ProjectedGANTrainer
from generators.training.gan.stylegan2 import StyleGAN2Trainer
from generators.training.loop import Progress, fit
from generators.training.vqgan import VQGANTrainer

SIZE = 16
STEPS = 6  # trainings of two parts change from the first to the second within them
SMALL = {
    "ddpm": lambda pictures: DDPMTrainer(SIZE, pictures, widths=(8, 16)),
    "ldm": lambda pictures: LDMTrainer(SIZE, pictures, widths=(8, 16)),
    "stylegan2": lambda pictures: StyleGAN2Trainer(SIZE, pictures, channel_max=16),
    "diff_stylegan2": lambda pictures: DiffStyleGAN2Trainer(SIZE, pictures, channel_max=16),
    "progan": lambda pictures: ProGANTrainer(SIZE, pictures, widths=(8, 8, 8), z_dim=8),
    "projected_gan": lambda pictures: ProjectedGANTrainer(SIZE, pictures, widths=(8, 8, 8), z_dim=8),
    "vqgan": lambda pictures: VQGANTrainer(SIZE, pictures, n_embed=16, n_layer=1, n_embd=16),
    "stable_diffusion": lambda pictures: StableDiffusionTrainer(SIZE, pictures, widths=(8, 16)),
    "diffface": lambda pictures: DiffFaceTrainer(SIZE, pictures, widths=(8, 16)),
    "simswap": lambda pictures: SimSwapTrainer(SIZE, pictures, widths=(8, 16), n_blocks=1),
}


class Stop(Exception):
    pass


@pytest.fixture(autouse=True)
def quick_swaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffface, "SWAP", {**diffface.SWAP, "steps": 4, "skip": 2, "candidates": 1})


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    rng = numpy_rng(0)
    grey = [np.repeat(rng.integers(0, 256, (18, 18, 1), np.uint8), 3, axis=2) for _ in range(6)]
    return [Picture(image, f"photograph-{index}", None, "made here", "nobody") for index, image in enumerate(grey)]


def train(name, pictures, folder, seed=0, on_progress=None):
    torch.manual_seed(0)
    trainer = SMALL[name](pictures)
    trainer.batch_size = 4
    output = folder / f"{name}.safetensors"
    return fit(trainer, pictures, output, folder / "work", steps=STEPS, seed=seed, size=SIZE, save_every=3, on_progress=on_progress)


def stop_after_four(progress: Progress) -> None:
    if progress.step == 4:
        raise Stop


@pytest.mark.parametrize("name", SMALL)
def test_a_stopped_run_ends_with_the_weights_of_an_undisturbed_one(name, pictures, tmp_path):
    whole = train(name, pictures, tmp_path / "whole")
    with pytest.raises(Stop):
        train(name, pictures, tmp_path / "stopped", on_progress=stop_after_four)
    seen = []
    resumed = train(name, pictures, tmp_path / "stopped", on_progress=lambda progress: seen.append(progress.step))
    assert seen == [4, 5, 6]
    assert resumed.losses == whole.losses
    undisturbed, stopped = read(whole.output), read(resumed.output)
    assert undisturbed.config == stopped.config
    assert list(undisturbed.tensors) == list(stopped.tensors)
    assert all(torch.equal(value, stopped.tensors[key]) for key, value in undisturbed.tensors.items())


@pytest.mark.parametrize("name", SMALL)
def test_the_checkpoint_loads_and_makes_grey_images(name, pictures, tmp_path):
    run = train(name, pictures, tmp_path)
    generator = registry.get(name).load(Checkpoint(run.output))
    if "swap" in generator.kinds:
        faces = np.stack([picture.image[:SIZE, :SIZE] for picture in pictures[:2]])
        images = generator.swap(faces, faces[::-1].copy(), [0, 1], **(diffface.SWAP if name == "diffface" else {}))
    elif name == "stable_diffusion":
        images = generator.prompt(["photograph 0", "photograph 1"], [0, 1], steps=3, safety="off")
    else:
        images = generator.sample([0, 1], **({"steps": 3} if name in {"ddpm", "ldm"} else {}))
    assert images.shape == (2, SIZE, SIZE, 3)
    assert not np.array_equal(images[0], images[1])
    assert (images == images[..., :1]).all()


def test_training_changes_the_weights_and_leaves_the_global_stream_alone(pictures, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    trainer = SMALL["ddpm"](pictures)
    trainer.batch_size = 4
    before = {key: value.clone() for key, value in trainer.unet.state_dict().items()}
    torch.manual_seed(3)
    fit(trainer, pictures, tmp_path / "out.safetensors", tmp_path / "work", steps=2, seed=0, size=SIZE, save_every=2)
    assert torch.equal(torch.rand(1), expected)
    assert any(not torch.equal(value, before[key]) for key, value in trainer.unet.state_dict().items())


def test_what_is_written_as_it_goes(pictures, tmp_path):
    train("ddpm", pictures, tmp_path)
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["losses.csv", "state.pt", "step-000003.png", "step-000006.png"]
    with (tmp_path / "work" / "losses.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["3", "6"]


def test_the_state_of_another_run_is_refused(pictures, tmp_path):
    train("ddpm", pictures, tmp_path)
    with pytest.raises(InputError, match="seed 0, not 1"):
        train("ddpm", pictures, tmp_path, seed=1)
    (tmp_path / "work" / "state.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match=r"state\.pt is not the state of a training run"):
        train("ddpm", pictures, tmp_path)
