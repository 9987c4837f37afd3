"""What is particular to the trainers of ProGAN, ProjectedGAN, VQGAN and Diff-StyleGAN2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from generators import registry
from generators.checkpoints import Checkpoint, write_safetensors
from generators.demo.pictures import Picture
from generators.networks.gan.progan import ProGAN
from generators.seeding import numpy_rng
from generators.training.gan import diff_stylegan2
from generators.training.gan.diff_stylegan2 import DiffStyleGAN2Trainer, DiffusedDiscriminator, DiffusedLearner
from generators.training.gan.growing import GrowingDiscriminator, HalvingConv, equalize
from generators.training.gan.progan import STAGE, ProGANTrainer, blur, lod_at
from generators.training.gan.projected_gan import ProjectedGANTrainer
from generators.training.loop import Batch
from generators.training.vqgan import VQGANTrainer

SIZE = 16


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    rng = numpy_rng(0)
    images = [rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for _ in range(4)]
    return [Picture(image, f"photograph-{index}", None, "made here", "nobody") for index, image in enumerate(images)]


@pytest.fixture
def batch(pictures) -> Batch:
    torch.manual_seed(1)
    smooth = F.interpolate(torch.rand(4, 3, 4, 4) * 2 - 1, SIZE, mode="bilinear")
    return Batch(smooth, torch.arange(4))


@pytest.mark.parametrize("trainer", [DiffStyleGAN2Trainer, ProGANTrainer, ProjectedGANTrainer])
def test_a_checkpoint_makes_the_images_that_the_trainer_showed(trainer, pictures, batch, tmp_path):
    """So the weights' scales, the folded norms and the names are those that the generator's `load` takes them for."""
    torch.manual_seed(0)
    small = {"channel_max": 16} if trainer is DiffStyleGAN2Trainer else {"widths": (16, 16, 8), "z_dim": 16}
    learner = trainer(SIZE, pictures, **small)
    for step in range(3):
        learner.step(batch, step, 0.9)
    path = tmp_path / "a.safetensors"
    tensors, config = learner.checkpoint()
    write_safetensors(path, tensors, config)
    images = registry.get(learner.name).load(Checkpoint(path)).sample(range(8))
    np.testing.assert_allclose(images.astype(int), learner.sheet()[:8].astype(int), atol=2)


def test_progan_grows_from_4_px_and_is_whole_at_the_end():
    assert [lod_at(stages * STAGE, 4) for stages in (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)] == [3, 3, 2, 1, 0, 0]
    assert lod_at(1.75 * STAGE, 4) == pytest.approx(1.5)


def test_at_a_level_of_detail_the_discriminator_sees_blocks_alone():
    torch.manual_seed(0)
    network = GrowingDiscriminator((16, 16, 8), channels=3)
    network.lod = 1.5
    images = torch.rand(4, 3, SIZE, SIZE)
    assert torch.allclose(network(images), network(blur(images, 1.0)), atol=1e-5)
    assert not torch.allclose(network(images), network(blur(images, 1.5)), atol=1e-5)
    assert torch.allclose(blur(images, 0.5), (images + blur(images, 1.0)) / 2, atol=1e-6)


def test_equalised_weights_are_drawn_from_a_unit_normal_and_keep_the_signal():
    torch.manual_seed(0)
    network = equalize(ProGAN(z_dim=64, widths=(64, 64, 64)))
    stored = network.ups[0].parametrizations.weight.original.detach()
    assert stored.shape == (64, 64, 3, 3)
    assert stored.std() == pytest.approx(1.0, abs=0.02)
    assert 0.3 < network(torch.randn(16, 64)).std() < 3


def test_a_halving_is_a_convolution_and_a_mean():
    torch.manual_seed(0)
    halving, x = HalvingConv(3, 5, 3), torch.randn(2, 3, 8, 8)
    expected = F.avg_pool2d(F.conv2d(x, halving.weight * halving.gain, padding=1), 2)
    assert torch.allclose(halving(x), expected, atol=1e-5)


def test_half_is_shown_as_it_is_and_the_rest_diffused_by_its_timestep():
    torch.manual_seed(0)
    learner = DiffusedLearner(DiffusedDiscriminator(SIZE, 1, 16))
    learner.network.last_t.fill_(500)
    images = torch.ones(4000, 1, SIZE, SIZE)
    seen, t = learner.show(images)
    assert (t == 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(seen[t == 0], images[t == 0])
    assert t.max() <= 500
    late = t > 450
    kept = learner.alpha_bar[t[late]]
    assert torch.allclose(seen[late].mean((1, 2, 3)), kept.sqrt(), atol=0.02)
    assert seen[late].std() < 0.3 < 1 - kept.sqrt().max()


def test_the_diffusion_grows_while_the_discriminator_wins(batch):
    torch.manual_seed(0)
    learner = DiffusedLearner(DiffusedDiscriminator(SIZE, 3, 16))
    for step in range(60):
        losses = learner.learn(batch.images, torch.zeros_like(batch.images), step=step, lr_factor=1.0)
    assert losses["real_sign"] == 1
    assert losses["last_t"] > diff_stylegan2.T_MIN + 4 * diff_stylegan2.ADAPT_BY


def test_the_autoencoder_learns_to_say_pictures_in_codes_and_the_transformer_to_write_them(pictures, batch):
    torch.manual_seed(0)
    trainer = VQGANTrainer(SIZE, pictures, n_embed=16, n_layer=1, n_embd=16)
    first = [trainer.step(batch, step, step / 80) for step in range(40)]
    second = [trainer.step(batch, step, step / 80) for step in range(40, 80)]
    assert first[19]["reconstruction"] < 0.5 * first[0]["reconstruction"]
    assert {"discriminator", "features"} <= set(first[39])
    assert second[-1]["surprise"] < 0.8 * second[0]["surprise"]
    assert trainer.sheet().shape == (48, SIZE, SIZE, 3)


def test_the_features_learn_to_tell_pictures_apart_and_are_then_frozen(pictures, batch):
    torch.manual_seed(0)
    trainer = ProjectedGANTrainer(SIZE, pictures, widths=(8, 8, 8), z_dim=8)
    recognition = [trainer.step(batch, step, step / 1000)["recognition"] for step in range(60)]
    assert np.mean(recognition[-5:]) < 0.8 * np.mean(recognition[:5])
    before = nn.utils.parameters_to_vector(trainer.features.parameters()).clone()
    mixing = nn.utils.parameters_to_vector(trainer.mixing.parameters()).clone()
    generator = nn.utils.parameters_to_vector(trainer.generator.parameters()).clone()
    trainer.step(batch, 60, 0.5)
    assert torch.equal(nn.utils.parameters_to_vector(trainer.features.parameters()), before)
    assert torch.equal(nn.utils.parameters_to_vector(trainer.mixing.parameters()), mixing)
    assert not torch.equal(nn.utils.parameters_to_vector(trainer.generator.parameters()), generator)
