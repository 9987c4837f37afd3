from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators.errors import InputError
from generators.seeding import numpy_rng
from generators.training.diffusion import ddpm
from generators.training.train import RECIPES, train_generator


def test_a_generator_from_a_folder_with_its_card(tmp_path, monkeypatch):
    rng = numpy_rng(1)
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{index}.png")
    monkeypatch.setattr(ddpm.DDPMTrainer, "batch_size", 2)
    run = train_generator("ddpm", tmp_path / "mine.safetensors", folder, steps=1, seed=4, size=16)
    card = run.output.with_suffix(".md").read_text()
    assert run.output.is_file()
    assert "ntf train-generator ddpm mine.safetensors --folder FOLDER --seed 4 --steps 1 --size 16" in card
    assert "3 pictures of the user's own" in card
    assert (tmp_path / "mine-training" / "step-000001.png").is_file()


@pytest.mark.parametrize(
    ("name", "output", "size", "message"),
    [
        ("biggan", "a.safetensors", 32, "no training of 'biggan'"),
        ("ddpm", "a.safetensors", 20, "cannot train at 20 px"),
        ("ddpm", "a.pkl", 32, "a safetensors file"),
        ("ddpm", "a.safetensors", 64, "pictures are for 32 px"),
        ("progan", "a.safetensors", 48, "cannot train progan at 48 px"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, name, output, size, message):
    with pytest.raises(InputError, match=message):
        train_generator(name, tmp_path / output, size=size)


def test_no_steps_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot train for 0 steps"):
        train_generator("ddpm", tmp_path / "a.safetensors", steps=0)


def test_every_demo_checkpoint_has_a_recipe():
    demo = Path(__file__).parents[3] / "generators" / "demo"
    assert {path.name.removesuffix("-demo-32.safetensors").replace("-", "_") for path in demo.glob("*.safetensors")} <= set(RECIPES)
