from __future__ import annotations

import pickle
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.methods.projected_gan import ProjectedGAN

SEEDS = [5, 2**40 + 1, 7, 0, 123456789, 11, 12, 13]
WIDTHS = {4: 16, 8: 12, 16: 8, 32: 6, 64: 6}


def sn(module: nn.Module) -> nn.Module:
    """Spectral norm as a hook, the form of 2021, with vectors that training has moved."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.spectral_norm(module)


class Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight * torch.randn(len(x), 1, *x.shape[2:])


class ConditionalNorm(nn.Module):
    def __init__(self, channels: int, z_dim: int):
        super().__init__()
        self.gain, self.bias = sn(nn.Linear(z_dim, channels)), sn(nn.Linear(z_dim, channels))
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.stored_mean, self.stored_var = x.mean((0, 2, 3)), x.var((0, 2, 3))
        x = (x - self.stored_mean[:, None, None]) * (self.stored_var[:, None, None] + 1e-5).rsqrt()
        return x * (1 + self.gain(condition)[:, :, None, None]) + self.bias(condition)[:, :, None, None]


def unit(z: torch.Tensor) -> torch.Tensor:
    """Latents `[N, z_dim]` of unit variance, as the network's first layer takes them: `[N, z_dim, 1, 1]`."""
    return (z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())[:, :, None, None]


def synthesize(synthesis: nn.Module, z: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
    """Images of the official modules, each called by itself."""
    x = small = synthesis.init.init(unit(z))
    for size in (8, 16, 32, 64):
        block = synthesis.get_submodule(f"feat_{size}")
        if condition is None:
            x = block(x)
        else:
            x = nn.functional.interpolate(x, scale_factor=2)
            for conv, norm in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
                x = nn.functional.glu(norm(block.noise(conv(x)), condition), 1)
    return synthesis.to_big(x * synthesis.se_64.main(small))


def settle(synthesis: nn.Module, z_dim: int) -> None:
    """The vectors of the spectral norms and the statistics of the batch norms, as training leaves them: a network whose weights are drawn
    and no more gives pixels of 1e13, whose rounding decides their sign."""
    synthesis.train()
    with torch.no_grad():
        for _ in range(20):
            z = torch.randn(8, z_dim)
            condition = synthesis.embed(torch.randint(3, (8,))) if hasattr(synthesis, "embed") else None
            synthesize(synthesis, z, condition)
    synthesis.eval()


def official(conditional: bool = False, z_dim: int = 10) -> nn.Module:
    """A 64 px generator with the tensors of the official class; only its structure matters here."""
    torch.manual_seed(0)
    synthesis = nn.Module()
    synthesis.init = nn.Module()
    norm = nn.BatchNorm2d(2 * WIDTHS[4])
    synthesis.init.init = nn.Sequential(sn(nn.ConvTranspose2d(z_dim, 2 * WIDTHS[4], 4, bias=False)), norm, nn.GLU(1))
    for size in (8, 16, 32, 64):
        before, width = WIDTHS[size // 2], WIDTHS[size]
        convs = [sn(nn.Conv2d(before, 2 * width, 3, 1, 1, bias=False)), sn(nn.Conv2d(width, 2 * width, 3, 1, 1, bias=False))]
        if conditional:
            block = nn.Module()
            block.conv1, block.conv2, block.noise = *convs, Noise()
            block.bn1, block.bn2 = ConditionalNorm(2 * width, z_dim), ConditionalNorm(2 * width, z_dim)
        else:
            norms = [nn.BatchNorm2d(2 * width) for _ in range(2)]
            up = nn.Upsample(scale_factor=2)
            block = nn.Sequential(up, convs[0], Noise(), norms[0], nn.GLU(1), convs[1], Noise(), norms[1], nn.GLU(1))
        synthesis.add_module(f"feat_{size}", block)
    synthesis.se_64 = nn.Module()
    synthesis.se_64.main = nn.Sequential(
        nn.AdaptiveAvgPool2d(4), sn(nn.Conv2d(16, 6, 4, bias=False)), nn.SiLU(), sn(nn.Conv2d(6, 6, 1, bias=False)), nn.Sigmoid()
    )
    synthesis.to_big = sn(nn.Conv2d(6, 3, 3, 1, 1))
    if conditional:
        synthesis.embed = nn.Embedding(3, z_dim)
    generator = nn.Module()
    generator.synthesis, generator.img_resolution = synthesis, 64
    for name, value in generator.named_parameters():
        if value.ndim > 1 and "main.3" not in name:
            value.data.normal_()
    settle(synthesis, z_dim)
    return generator.eval()


@pytest.fixture
def pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """The file that training writes: whole modules of classes that are not installed here."""
    for parent in ("pg_modules", "pg_modules.networks_fastgan", "pg_modules.blocks"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    ours = {"Generator": ("pg_modules.networks_fastgan", nn.Module), "NoiseInjection": ("pg_modules.blocks", Noise)}
    classes = {name: type(name, (base,), {"__module__": place}) for name, (place, base) in ours.items()}
    for name, (place, _) in ours.items():
        setattr(sys.modules[place], name, classes[name])
    network = official()
    network.__class__ = classes["Generator"]
    for module in network.modules():
        if type(module) is Noise:
            module.__class__ = classes["NoiseInjection"]
    path = tmp_path / "network-snapshot.pkl"
    path.write_bytes(pickle.dumps({"G": None, "D": None, "G_ema": network, "augment_pipe": None}, protocol=4))
    monkeypatch.undo()
    return Checkpoint(path)


@pytest.fixture
def conditional(tmp_path: Path) -> ProjectedGAN:
    torch.save({"G_ema": official(conditional=True).state_dict()}, tmp_path / "c.pth")
    return ProjectedGAN.load(Checkpoint(tmp_path / "c.pth", {"img_resolution": 64}))


def test_same_seed_gives_same_image_whatever_the_batch_or_order(pickled: Checkpoint) -> None:
    generator = ProjectedGAN.load(pickled)
    together = generator.sample(SEEDS).astype(int)
    assert together.shape == (8, 64, 64, 3)
    assert together.std() > 5
    assert ((together == 0) | (together == 255)).mean() < 0.05  # in range, as a trained network's images are
    for batch in (1, 3):
        generator.batch_size = batch
        assert np.abs(generator.sample(SEEDS[::-1])[::-1].astype(int) - together).max() <= 1


def test_spectral_norm_batch_norm_and_upsampling_fold_into_what_the_modules_compute(pickled: Checkpoint) -> None:
    synthesis = official().synthesis
    for size in (8, 16, 32, 64):
        block = synthesis.get_submodule(f"feat_{size}")
        block[2] = block[6] = nn.Identity()  # no noise
    z = torch.randn(2, 10)
    with torch.no_grad():
        wanted = synthesize(synthesis, z)
        got = ProjectedGAN.load(pickled).network(z)
    assert torch.allclose(got, wanted, atol=1e-4 * wanted.std().item())


def test_noise_can_be_left_out_and_comes_from_the_seed_otherwise(pickled: Checkpoint) -> None:
    generator = ProjectedGAN.load(pickled)
    assert not np.array_equal(generator.sample([1]), generator.sample([1], noise=False))
    assert np.array_equal(generator.sample([1]), generator.sample([1]))


def test_fastgan_refuses_truncation(pickled: Checkpoint) -> None:
    with pytest.raises(InputError, match=r"truncation_psi 0\.7, but FastGAN has no truncation"):
        ProjectedGAN.load(pickled).sample([1], truncation_psi=0.7)


def test_class_comes_from_the_seed_or_the_manifest(conditional: ProjectedGAN) -> None:
    by_class = [conditional.sample([5], class_index=index) for index in range(3)]
    assert not np.array_equal(by_class[0], by_class[1])
    assert any(np.array_equal(conditional.sample([5]), image) for image in by_class)
    with pytest.raises(InputError, match="class_index 3, but this checkpoint has 3 classes"):
        conditional.sample([5], class_index=3)


def test_stylegan2_network_is_handed_on(tmp_path: Path) -> None:
    from generators.checkpoints import write_safetensors
    from generators.methods.stylegan2 import StyleGAN2
    from generators.networks.gan.stylegan2 import Generator

    torch.manual_seed(0)
    config = {"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": 16, "img_channels": 3, "channel_base": 128, "channel_max": 8}
    config["mapping_kwargs"] = {"num_layers": 2}
    write_safetensors(tmp_path / "s.safetensors", Generator(**config).state_dict(), config)
    checkpoint = Checkpoint(tmp_path / "s.safetensors")
    assert np.array_equal(ProjectedGAN.load(checkpoint).sample([4]), StyleGAN2.load(checkpoint).sample([4]))


def test_file_that_lacks_a_tensor_is_named(tmp_path: Path) -> None:
    state = official().state_dict()
    del state["synthesis.feat_16.5.weight_u"]
    torch.save({"G_ema": state}, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"cut\.pth lacks G_ema\.synthesis\.feat_16\.5\.weight_u"):
        ProjectedGAN.load(Checkpoint(tmp_path / "cut.pth", {"img_resolution": 64}))
