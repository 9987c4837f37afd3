"""No step of a sampler makes the host wait for the device: no number is read from it, and nothing is copied from ordinary memory.

Tensors of the device `meta` have no values: what reads one fails, and every copy to them is seen. So one step that waits for a GPU fails
here without one. What is done once a batch is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from generators import images, transfer
from generators.checkpoints import Checkpoint
from generators.faces.guidance import FaceGuidance, Scene
from generators.loading import load_generator
from generators.methods.diffface import DiffFace
from generators.methods.janus import Janus
from generators.methods.pndm import pseudo_numerical
from generators.networks.diffusion import host_noise
from generators.networks.faces.arcface import ArcFace
from generators.networks.faces.bisenet import BiSeNet
from generators.networks.faces.gaze import GazeNet
from generators.networks.faces.warps import draw_warps, warp
from generators.seeding import torch_rng
from tests.parity.cases import Case

META = torch.device("meta")
DEMO = Path(__file__).parents[3] / "generators" / "demo"
PARSER = Case(Path(__file__).parents[2] / "parity" / "cases" / "diffface" / "guidance_and_loop_tiny32")
READS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim"}


class Waits(AssertionError):
    """A call that makes the host wait."""


class NoReading(TorchDispatchMode):
    """Refuses what reads a number of a tensor on `meta`, and blocking copies to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [part for part in (*args, *kwargs.values()) if isinstance(part, torch.Tensor)]
        there = any(part.device == META for part in tensors)
        if there and name in READS:
            raise Waits(f"{name} reads a number from the device")
        if there and name.startswith("index") and any(_is_mask(part) for part in args[1] or ()):
            raise Waits(f"{name} counts what is true on the device")
        out = func(*args, **kwargs)
        if name in ("_to_copy", "copy_") and not kwargs.get("non_blocking", len(args) > 2 and args[2]):
            devices = {part.device.type for part in (*tensors, out)}
            if len(devices) > 1:
                raise Waits(f"{name} between {' and '.join(sorted(devices))} waits")
        return out


class NoTensorsOfNumbers(TorchFunctionMode):
    """Refuses `torch.tensor(..., device=...)`, whose copy no dispatch mode sees."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        device = (kwargs or {}).get("device")
        if func in (torch.tensor, torch.as_tensor) and device is not None and torch.device(device) == META:
            raise Waits(f"{func.__name__} copies numbers to the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting() -> Iterator[None]:
    with NoReading(), NoTensorsOfNumbers():
        yield


def _is_mask(part: Any) -> bool:
    return isinstance(part, torch.Tensor) and part.dtype in (torch.bool, torch.uint8) and part.dim() > 0


@pytest.fixture(autouse=True)
def a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` counts as a card whose copies go on beside other work."""

    def crosses(device: str | torch.device) -> bool:
        return torch.device(device).type == "meta"

    for module in (transfer, host_noise, images):
        monkeypatch.setattr(module, "crosses", crosses)
    monkeypatch.setattr(transfer, "_begin_copy", lambda tensor: (torch.zeros(tensor.shape, dtype=tensor.dtype), None))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)


def noise_of(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    assert t.device == META, "the network is told a timestep that is on its device already"
    return x * 0.5 + t


@pytest.mark.parametrize(
    "act",
    [
        lambda x: float(x.sum()),
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.tensor(3.0, device=x.device),
        lambda x: torch.ones(2).to(x.device),
        lambda x: x.copy_(torch.ones(2, 2)),
        lambda x: bool((x > 0).any()),
    ],
    ids=["float", "item", "mask", "nonzero", "tensor", "to", "copy_", "bool"],
)
def test_what_waits_is_seen(act: Callable[[torch.Tensor], Any]) -> None:
    x = torch.ones(2, 2, device=META)
    with pytest.raises((Waits, NotImplementedError, RuntimeError)), no_waiting():
        act(x)


def test_what_does_not_wait_is_let_through() -> None:
    x = torch.ones(2, 2, device=META)
    with no_waiting():
        transfer.send(torch.ones(2), META)
        torch.full((), 3, device=META)
        (x * torch.tensor(0.5)).float()  # a number of the host's in a product goes with the call
        torch.where(x > 0, x, 0.0)


def scheduler(name: str, official: bool, **chosen: Any) -> Any:
    """A method's own scheduler and the options of its steps, without its network."""
    from generators import registry

    method = registry.get(name)
    generator = object.__new__(method)
    generator.schedule = {"num_train_timesteps": 100}
    generator.timestep_scale = 1.0
    generator.unet = type("Network", (), {"config": type("Config", (), {"in_channels": 3, "out_channels": chosen.pop("channels", 3)})})
    generator.device = META
    settings = generator.parse_parameters({"steps": 8, "official": official, **chosen})
    return generator, generator.scheduler(settings), generator.step_options(settings, [torch_rng(1), torch_rng(2)])


CASES = [
    ("ddpm", False, {}),
    ("ddpm", True, {}),
    ("ddpm", False, {"channels": 6}),
    ("ddim", False, {}),
    ("ddim", False, {"eta": 0.7}),
    ("ddim", True, {"eta": 1.0}),
    ("pndm", False, {}),
    ("pndm", False, {"skip_prk_steps": True}),
    ("pndm", True, {}),
    ("pndm", True, {"method": "S-PNDM"}),
]


@pytest.mark.parametrize(("name", "official", "chosen"), CASES, ids=str)
def test_no_step_of_a_denoiser_waits(name: str, official: bool, chosen: dict[str, Any]) -> None:
    generator, steps, options = scheduler(name, official, **chosen)
    two_fold = chosen.get("channels") == 6

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return noise_of(torch.cat([x, x], 1) if two_fold else x, t)

    with no_waiting(), torch.inference_mode():
        x = generator.denoise(predict, torch.zeros(2, 3, 4, 4, device=META), steps, steps.timesteps, options)
    assert x.shape == (2, 3, 4, 4)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "fixed_small_log", "learned", "learned_range"])
@pytest.mark.parametrize("images", [1, 2])
def test_noise_that_is_sent_is_the_noise_of_diffusers(monkeypatch: pytest.MonkeyPatch, variance: str, images: int) -> None:
    """Step by step, to the bit, on the CPU."""
    from diffusers import DDIMScheduler, DDPMScheduler

    channels = 6 if variance.startswith("learned") else 3
    x = torch.randn(images, 3, 4, 4, generator=torch_rng(5))
    predicted = 0.5 * torch.randn(images, channels, 4, 4, generator=torch_rng(6))
    predicted[:, 3:] = predicted[:, 3:].abs()  # a variance
    for theirs, ours, own in ((DDPMScheduler, host_noise.HostNoiseDDPM, {}), (DDIMScheduler, host_noise.HostNoiseDDIM, {"eta": 0.8})):
        config = {"variance_type": variance} if theirs is DDPMScheduler else {}
        noise = predicted if theirs is DDPMScheduler else predicted[:, :3]
        results = []
        for kind in (theirs, ours):
            monkeypatch.setattr(host_noise, "crosses", lambda device: True)
            monkeypatch.setattr(transfer, "crosses", lambda device: True)
            steps = kind.from_config({"num_train_timesteps": 50, **config})
            steps.set_timesteps(5)
            rngs = [torch_rng(seed) for seed in range(images)]
            results.append([steps.step(noise, t, x, generator=rngs, **own).prev_sample for t in steps.timesteps])
        assert all(torch.equal(*pair) for pair in zip(*results, strict=True)), theirs.__name__
        assert not torch.equal(results[0][0], results[0][1])


def test_the_samplers_of_pndm_are_told_the_same_times(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[torch.Tensor] = []

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        told.append(t)
        return x

    pseudo_numerical(predict, torch.ones(1), [30, 20, 10, -1], torch.linspace(0.9, 0.1, 40), "F-PNDM")
    assert [(float(t), t.dtype) for t in told[:4]] == [
        (30.0, torch.int64),
        (25.0, torch.float32),
        (25.0, torch.float32),
        (20.0, torch.int64),
    ]
    assert all(t.dim() == 0 for t in told)


def test_no_warp_of_a_face_waits() -> None:
    images, numbers = torch.zeros(4, 3, 16, 16, device=META), draw_warps([torch_rng(1), torch_rng(2)], 2).flatten(0, 1)
    with no_waiting():
        assert warp(images, numbers).shape == images.shape


@pytest.mark.parametrize("ddim", [False, True])
def test_no_step_of_diffface_waits(monkeypatch: pytest.MonkeyPatch, ddim: bool) -> None:
    """With all four terms of its guidance, and the mask that grows from step to step."""
    monkeypatch.setattr("generators.faces.guidance.PARSER_SIZE", 64)
    monkeypatch.setattr("generators.faces.guidance.LOGIT_SIZE", 32)
    arcface = ArcFace((1, 1, 1, 1), widths=(8, 8, 8, 8), input_size=32).to(META)
    parser = BiSeNet.from_state(PARSER.weights("netSeg"), "a parser").to(META)
    generator = object.__new__(DiffFace)
    generator.guidance = FaceGuidance(arcface, parser, GazeNet(1, 8, 4, True).to(META), copies=2)
    generator.device, generator.dtype = META, torch.float16
    generator.id_embed = torch.nn.Identity()
    told: list[torch.Tensor] = []

    def unet(x: torch.Tensor, t: torch.Tensor, class_labels: torch.Tensor) -> Any:
        told.append(t)
        return type("Output", (), {"sample": torch.cat([x, 0.1 * x], 1)})

    generator.unet = unet
    pictures, logits = torch.zeros(2, 3, 32, 32, device=META), torch.zeros(2, 9, 32, 32, device=META)
    boxes = [[(2, 4, 14, 12), (16, 4, 28, 12)], []]
    gazes = [[torch.zeros(2, device=META)] * 2, []]
    scene = Scene(pictures, pictures[:, :1], torch.zeros(2, 512, device=META), logits, boxes, gazes)
    settings = DiffFace.parse_parameters({"steps": 6, "skip": 1, "masking_threshold": 2, "ddim": ddim})
    with torch.no_grad(), no_waiting():
        made = generator.make(scene, settings, [torch_rng(1), torch_rng(2)])
    assert made.shape == pictures.shape
    assert len(told) == 5 and all(t.device == META for t in told)


@pytest.mark.parametrize("name", ["stylegan2", "diff_stylegan2", "progan", "projected_gan", "simswap", "vqgan"])
def test_no_batch_of_a_network_without_steps_waits(name: str) -> None:
    """From the seeds to pixels that are on their way, with the checkpoints of the demo."""
    generator = load_generator(name, Checkpoint(DEMO / f"{name.replace('_', '-')}-demo-32.safetensors"), META)
    settings = generator.parse_parameters({})
    with torch.inference_mode(), no_waiting():
        if name == "simswap":
            faces = np.zeros((2, generator.resolution, generator.resolution, 3), np.uint8)
            made = generator._swap(faces, faces, [1, 2], settings)
        else:
            made = generator._sample([1, 2], settings)
    assert isinstance(made, transfer.Fetched) and made.array().shape == (2, generator.resolution, generator.resolution, 3)


@pytest.mark.parametrize("region", ["square", "picture"])
def test_no_edit_of_vqgan_waits(region: str) -> None:
    generator = load_generator("vqgan", Checkpoint(DEMO / "vqgan-demo-32.safetensors"), META)
    settings = generator.parse_parameters({"latent_noise": 0.5, "region": region})
    sides = (30, 25) if region == "picture" else (32, 32)
    with torch.inference_mode(), no_waiting():
        made = generator._edit(np.zeros((5, *sides, 3), np.uint8), list(range(5)), settings)
    assert isinstance(made, transfer.Fetched) and made.array().shape == (5, *sides, 3)


def test_no_token_of_janus_waits() -> None:
    generator = object.__new__(Janus)
    with no_waiting():
        chosen = generator._drawn(torch.zeros(4, 16, device=META), [torch_rng(1), torch_rng(2)], Janus.parse_parameters({"top_k": 4}))
    assert chosen.shape == (2,) and chosen.device == META
