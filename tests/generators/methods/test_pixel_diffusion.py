"""DDPM, DDIM and PNDM: every form of checkpoint, diffusers' own pipelines as the reference, seeds, edits and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.methods.ddim import DDIM
from generators.methods.ddpm import DDPM
from generators.methods.pndm import PNDM
from tests.generators.methods import tiny_diffusion as tiny
from tests.parity.cases import Case

METHODS = [DDPM, DDIM, PNDM]
STEPS = 6
HERE = Path(__file__).parents[2] / "parity" / "cases"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.pixel_pipeline(tmp_path_factory.mktemp("ddpm"))


@pytest.mark.parametrize("method", METHODS)
def test_one_image_is_the_one_of_diffusers_own_pipeline(method: type, folder: Path) -> None:
    from diffusers import DDIMPipeline, DDPMPipeline
    from diffusers.pipelines import PNDMPipeline

    pipeline = {DDPM: DDPMPipeline, DDIM: DDIMPipeline, PNDM: PNDMPipeline}[method].from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(num_inference_steps=STEPS, generator=torch.Generator().manual_seed(7), output_type="np").images
    ours = method.load(Checkpoint(folder)).sample([7], steps=STEPS)
    assert np.abs(ours - 255 * theirs).max() <= 1


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_image_for_all_batch_sizes(method: type, folder: Path) -> None:
    model = method.load(Checkpoint(folder))
    tiny.same_for_all_batch_sizes(model, lambda: model.sample(range(8), steps=STEPS))
    images = model.sample(range(8), steps=STEPS)
    tiny.same_for_all_batch_sizes(model, lambda: model.edit(images, range(8), steps=10, strength=0.5))


def test_ddim_with_eta_draws_for_each_image_from_its_own_seed(folder: Path) -> None:
    model = DDIM.load(Checkpoint(folder))
    tiny.same_for_all_batch_sizes(model, lambda: model.sample(range(8), steps=STEPS, eta=1.0))
    assert not np.array_equal(model.sample([1], steps=STEPS, eta=1.0), model.sample([1], steps=STEPS))


def test_a_single_file_in_half_precision_gives_grey_as_rgb(tmp_path: Path) -> None:
    model = DDIM.load(Checkpoint(tiny.pixel_file(tmp_path / "grey.safetensors", channels=1)))
    images = model.sample([1, 2], steps=STEPS)
    assert images.shape == (2, 16, 16, 3)
    assert (images[..., 0] == images[..., 2]).all()
    assert model.unet.dtype == torch.float32
    assert model.edit(images, [1, 2], steps=STEPS).shape == images.shape


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("official", [False, True])
def test_a_weaker_edit_stays_nearer_to_its_image(method: type, official: bool, folder: Path) -> None:
    model = method.load(Checkpoint(folder))
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    distances = [np.abs(model.edit(image, [3], steps=100, strength=s, official=official) - image.astype(int)).mean() for s in (0.05, 0.6)]
    assert distances[0] < distances[1]


@pytest.mark.parametrize("method", ["F-PNDM", "S-PNDM", "DDIM"])
def test_pndm_official_takes_any_number_of_steps(method: str, folder: Path) -> None:
    model = PNDM.load(Checkpoint(folder))
    assert model.sample([1], steps=7, official=True, method=method).std() > 5


def test_pndm_edits_begin_with_the_calls_of_a_whole_run(folder: Path) -> None:
    """The first steps of a run are repeated calls of the network; an edit that begins in the middle has them too."""
    model = PNDM.load(Checkpoint(folder))
    halves = {False: [400, 350, 350, 300, 300, 250, 250, 200, 200, 150, 150, 100, 100, 0], True: [400, 300, 300, 200, 100, 0]}
    for skip, half in halves.items():
        settings = PNDM.parse_parameters({"steps": 10, "skip_prk_steps": skip})
        whole = model.scheduler(settings).timesteps
        assert torch.equal(model.timesteps_from(model.scheduler(settings), 10), whole)
        assert model.timesteps_from(model.scheduler(settings), 5).tolist() == half
    with pytest.raises(InputError, match="too short"):
        model.edit(np.zeros((1, 16, 16, 3), np.uint8), [0], steps=10, strength=0.2)
    with pytest.raises(InputError, match="too few"):
        model.sample([0], steps=3)


def test_settings_that_decide_pixels_do_so(folder: Path) -> None:
    ddpm, ddim = DDPM.load(Checkpoint(folder)), DDIM.load(Checkpoint(folder))
    assert not np.array_equal(ddpm.sample([1], steps=STEPS), ddpm.sample([1], steps=STEPS, variance_type="fixed_large"))
    chosen = ddpm.sample([1], steps=5, variance_type="fixed_large", clip_sample=True)
    assert np.array_equal(chosen, ddpm.sample([1], steps=5, official=True))  # 5 divides 1000: the timesteps are the same
    assert np.array_equal(ddim.sample([1], steps=5, clip_sample=False, set_alpha_to_one=True), ddim.sample([1], steps=5, official=True))
    assert len(ddim.scheduler(DDIM.parse_parameters({"steps": 30, "official": True})).timesteps) == 31  # range(0, 1000, 33)


def test_an_original_state_dict_is_recognised_with_its_image_size(tmp_path: Path) -> None:
    case = Case(HERE / "ddpm_ddim" / "tiny32")
    state = case.weights("model")
    wrapped = {f"module.{key}": value for key, value in state.items()}
    for name, form in (("released", state), ("training", [{"module.conv_in.weight": torch.zeros(1)}, {}, 3, 4, wrapped])):
        file = tmp_path / f"{name}.ckpt"
        torch.save(form, file)
        assert DDIM.load(Checkpoint(file)).resolution == 32  # attention at level 1 means 16 pixels there
        assert DDIM.load(Checkpoint(file, {"size": 64})).resolution == 64


def test_guided_diffusion_samples_with_its_learned_variance(tmp_path: Path) -> None:
    case = Case(HERE / "guided_diffusion" / "tiny32")
    torch.save(case.weights("model"), tmp_path / "model.pt")
    for method in METHODS:
        model = method.load(Checkpoint(tmp_path / "model.pt", case.config))
        assert model.sample([1], steps=4).shape == (1, 32, 32, 3)
    assert DDPM.load(Checkpoint(tmp_path / "model.pt", case.config)).learned_variance


def test_what_is_wrong_is_named(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt is no diffusion network"):
        DDPM.load(Checkpoint(tmp_path / "other.pt"))
    with pytest.raises(CheckpointError, match="has no unet"):
        DDPM.load(Checkpoint(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="nobody/nothing is neither on this disk nor"):
        DDPM.load(Checkpoint(Path("nobody/nothing")))
    with pytest.raises(InputError, match="16x16"):
        DDPM.load(Checkpoint(folder)).edit(np.zeros((1, 8, 8, 3), np.uint8), [0], steps=4)


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_stays_near_to_full(method: type, folder: Path) -> None:
    """Only the network is in half precision; the schedule's arithmetic is not."""
    full = method.load(Checkpoint(folder)).sample([1, 2], steps=STEPS)
    half = method.load(Checkpoint(folder), dtype=torch.bfloat16)
    assert half.unet.dtype == torch.bfloat16
    assert np.abs(half.sample([1, 2], steps=STEPS).astype(int) - full).mean() < 10


class _Opens:
    """A pickle that would make a file if it were run."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


def test_a_malicious_weight_file_in_a_folder_is_not_run(tmp_path: Path) -> None:
    folder = tiny.pixel_pipeline(tmp_path / "pipeline")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"conv_in.weight": _Opens(tmp_path / "made")}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"wants io\.open called"):
        DDPM.load(Checkpoint(folder))
    assert not (tmp_path / "made").exists()
