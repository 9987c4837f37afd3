"""How many of DiffFace's candidates are made together, by the memory that is free."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from torch import nn

from foreign.memory import release
from generators import memory
from generators.checkpoints import Checkpoint
from generators.faces.guidance import Weights
from generators.images import to_float
from generators.methods import diffface
from generators.methods.diffface import DiffFace
from generators.networks.diffusion.recomputed import Recomputing
from generators.networks.diffusion.respaced import Respaced
from generators.seeding import torch_rng

DEMO = Path(str(resources.files("generators"))) / "demo" / "diffface-demo-32.safetensors"


def test_candidates_are_made_one_by_one_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32, 3), dtype=np.uint8)
    settings = {"steps": 3, "skip": 1, "candidates": 3, "mask": "ellipse", "parsing": 0, "gaze": 0}
    sizes: list[int] = []
    original = DiffFace.make

    def counted(self: DiffFace, scene: object, chosen: object, rngs: list[object]) -> object:
        sizes.append(len(rngs))
        return original(self, scene, chosen, rngs)  # type: ignore[arg-type]

    monkeypatch.setattr(DiffFace, "make", counted)
    whole = DiffFace.load(Checkpoint(DEMO)).swap(*images, [1], **settings)
    monkeypatch.setattr(diffface, "batch_memory", lambda device: 1)
    single = DiffFace.load(Checkpoint(DEMO)).swap(*images, [1], **settings)
    assert sizes == [3, 1, 1, 1]
    assert np.abs(whole.astype(int) - single).max() <= 1


@pytest.mark.parametrize(
    ("free", "own", "rows"),
    [(20.0, 3.0, 8), (10.0, 1.0, 4), (10.0, 3.0, 3), (7.0, 6.0, 1), (2.0, 9.0, 1)],
    ids=["more than eight", "half of eleven", "other networks count", "half is nearly taken", "half is taken"],
)
def test_a_process_takes_half_of_a_machine(monkeypatch: pytest.MonkeyPatch, free: float, own: float, rows: int) -> None:
    """Memory in rows of the demo's network."""
    model = DiffFace.load(Checkpoint(DEMO))
    row = model._bytes_of_a_candidate()
    monkeypatch.setattr(memory, "free_memory", lambda device: int(free * row))
    monkeypatch.setattr(memory, "own_memory", lambda: int(own * row))
    assert model.fit_memory() == rows and model.recomputing is None
    monkeypatch.setattr(memory, "free_memory", lambda device: 100 * row)
    assert model.fit_memory() == model.rows_at_once == 8  # a moment without memory is not remembered


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system does not say what a process holds")
def test_own_memory_counts_what_is_allocated_and_no_mapped_file(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(100_000_000)
    release()  # else what other tests have freed is used again, and nothing grows
    before = memory.own_memory()
    assert before > 10_000_000
    held = torch.ones(25_000_000)
    assert memory.own_memory() - before == pytest.approx(100_000_000, rel=0.05)
    mapped = np.memmap(tmp_path / "file", np.uint8, "r")
    assert int(mapped.sum()) == 0
    assert memory.own_memory() - before < 120_000_000
    del held
    release()
    assert memory.own_memory() - before < 20_000_000


def test_candidates_that_do_not_fit_are_halved_from_those_that_were_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32, 3), dtype=np.uint8)
    model, sizes = DiffFace.load(Checkpoint(DEMO)), list[int]()
    original = DiffFace.make

    def short(self: DiffFace, scene: object, chosen: object, rngs: list[object]) -> object:
        sizes.append(len(rngs))
        if len(rngs) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 67108864 bytes")
        return original(self, scene, chosen, rngs)  # type: ignore[arg-type]

    monkeypatch.setattr(DiffFace, "make", short)
    model.swap(*images, [1], steps=3, skip=1, candidates=5, mask="ellipse", parsing=0, gaze=0)
    assert sizes == [5, 2, 2, 1]


def large(monkeypatch: pytest.MonkeyPatch) -> DiffFace:
    """The demo's network as one that is worth running again."""
    monkeypatch.setattr(diffface, "LARGE", 32)
    model = DiffFace.load(Checkpoint(DEMO))
    assert model.recomputing is not None
    return model


@pytest.mark.parametrize(("candidates_that_fit", "kept"), [(9.0, True), (1.0, True), (0.9, False), (0.1, False)])
@pytest.mark.parametrize("exact", [False, True])
def test_a_cpu_makes_one_candidate_at_a_time_and_keeps_its_maps_where_they_fit(
    monkeypatch: pytest.MonkeyPatch, candidates_that_fit: float, kept: bool, exact: bool
) -> None:
    """How many are made together decides rounding, so it does not follow memory here."""
    model = large(monkeypatch)
    model.exact = exact
    own = model._bytes_of_a_candidate()
    monkeypatch.setattr(diffface, "batch_memory", lambda device: int(candidates_that_fit * own))
    assert model.fit_memory() == 1
    assert model.recomputing is not None and model.recomputing.on is not kept


def test_maps_that_do_not_fit_are_computed_again_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the pictures are those of the plain way."""
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32, 3), dtype=np.uint8)
    settings = {"steps": 3, "skip": 1, "candidates": 3, "mask": "ellipse", "parsing": 0, "gaze": 0}
    wanted = DiffFace.load(Checkpoint(DEMO)).swap(*images, [1], **settings)
    model, tried = large(monkeypatch), list[tuple[int, bool]]()
    original = DiffFace.make

    def short(self: DiffFace, scene: object, chosen: object, rngs: list[object]) -> object:
        tried.append((len(rngs), self.recomputing.on))  # type: ignore[union-attr]
        if not self.recomputing.on:  # type: ignore[union-attr]
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 67108864 bytes")
        return original(self, scene, chosen, rngs)  # type: ignore[arg-type]

    monkeypatch.setattr(DiffFace, "make", short)
    made = model.swap(*images, [1], **settings)
    assert tried == [(1, False)] + [(1, True)] * 3 and not model.keeps_maps and model.rows_at_once == 1
    assert np.abs(made.astype(int) - wanted).max() <= 1
    model.swap(*images, [1], **settings)
    assert tried[4:] == [(1, True)] * 3


def test_exact_runs_blocks_again_rather_than_end_and_ends_rather_than_make_fewer_together(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32, 3), dtype=np.uint8)
    settings = {"steps": 3, "skip": 1, "candidates": 2, "mask": "ellipse", "parsing": 0, "gaze": 0}
    model = large(monkeypatch)
    model.exact = True
    original = DiffFace.make

    def short(self: DiffFace, *arguments: object) -> object:
        if self.recomputing is None or not self.recomputing.on:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 67108864 bytes")
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(DiffFace, "make", short)
    model.swap(*images, [1], **settings)
    assert not model.keeps_maps
    model.recomputing, model.rows_at_once = None, 2
    scene = model.guidance.prepare(to_float(images[0]), to_float(images[1]), "ellipse")
    with pytest.raises(RuntimeError, match="allocate memory"):
        model._candidates(scene, [1], model.parse_parameters(settings))
    assert model.rows_at_once == 2


def test_free_memory_keeps_to_the_containers_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    unlimited = memory.free_memory("cpu")
    assert unlimited > 1_000_000
    for name, text in (("memory.max", "5000000"), ("memory.current", "4000000"), ("memory.stat", "anon 1\ninactive_file 500000\n")):
        (tmp_path / name).write_text(text)
    assert memory.free_memory("cpu") == 1_500_000
    (tmp_path / "memory.max").write_text("max")
    assert memory.free_memory("cpu") > 1_000_000


def small_unet() -> nn.Module:
    torch.manual_seed(0)
    down = ("ResnetDownsampleBlock2D", "AttnDownBlock2D")
    unet = UNet2DModel(
        sample_size=16,
        out_channels=6,
        block_out_channels=(8, 16),
        layers_per_block=2,
        down_block_types=down,
        up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=8,
        norm_num_groups=4,
        attn_norm_num_groups=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
    )
    for parameter in unet.parameters():
        parameter.data.normal_(0, 0.2)
    return unet.eval().requires_grad_(False)


def out_and_gradient(unet: nn.Module) -> tuple[torch.Tensor, torch.Tensor, int]:
    """What a network gives, its gradient at the input, and how many numbers of maps it keeps for that."""
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in unet.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = unet(x, torch.tensor(7.0), class_labels=torch.ones(2, 32)).sample
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    return out.detach(), gradient, sum(kept.values())


def test_a_network_that_runs_again_computes_the_same_and_keeps_less() -> None:
    plain, again, usual = small_unet(), small_unet(), small_unet()
    names = list(again.state_dict())
    switch = Recomputing(again)
    usual.enable_gradient_checkpointing()
    (out, gradient, kept), (own_out, own_gradient, own_kept) = out_and_gradient(plain), out_and_gradient(again)
    assert torch.equal(out, own_out)
    assert torch.allclose(gradient, own_gradient, rtol=1e-5, atol=1e-7)
    assert list(again.state_dict()) == names
    assert own_kept < out_and_gradient(usual)[2] / 1.5 < kept / 3
    switch.turn(False)
    unlike_out, unlike_gradient, all_kept = out_and_gradient(again)
    assert torch.equal(out, unlike_out) and torch.equal(own_gradient, unlike_gradient) and all_kept == kept
    switch.turn(True)
    assert out_and_gradient(again)[2] == own_kept
    with torch.no_grad():
        same = [net(torch.ones(1, 3, 16, 16), torch.tensor(7.0), class_labels=torch.ones(1, 32)).sample for net in (plain, again)]
        assert torch.equal(*same)


def test_a_loss_that_the_picture_does_not_change_pulls_nowhere() -> None:
    """As the gaze does where a target shows no eyes."""
    model = DiffFace.load(Checkpoint(DEMO))
    images = torch.zeros(1, int(model.unet.config.in_channels), 32, 32)
    embedded, schedule = model.embed(torch.ones(1, 128) / 128**0.5), Respaced(10)
    constant, nothing = (
        model.step(images, 3, embedded, schedule, lambda: torch.zeros_like(images), guide, ddim=False)[0]
        for guide in (lambda x, k: [torch.ones(1)], lambda x, k: [])
    )
    assert torch.equal(constant, nothing)


def test_the_guidances_parts_add_up_to_its_terms() -> None:
    """The copies of the face in pairs, and each network's maps freed before the next: the same losses and gradients."""
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 32, 32, 3), dtype=np.uint8)
    guidance = DiffFace.load(Checkpoint(DEMO)).guidance
    assert guidance.copies_at_once == diffface.COPIES_ON_A_CPU < guidance.copies
    with torch.no_grad():
        scene = guidance.prepare(to_float(images[0]), to_float(images[1]), "ellipse")
    results = []
    for copies_at_once in (guidance.copies, 2, 3):
        guidance.copies_at_once = copies_at_once
        seen = to_float(images[2]).requires_grad_()
        rngs = [torch_rng(seed) for seed in (1, 2)]
        pulled, values = torch.zeros_like(seen), {}
        for name, loss in guidance.parts(seen, scene, Weights(parsing=0), rngs, with_gaze=False):
            pulled += torch.autograd.grad(loss.sum(), seen)[0]
            values[name] = values.get(name, 0) + loss.detach()
        results.append((values, pulled))
    for values, pulled in results[1:]:
        assert values.keys() == {"identity", "preservation"}
        for name, value in values.items():
            assert torch.allclose(value, results[0][0][name], rtol=1e-5)
        assert torch.allclose(pulled, results[0][1], rtol=1e-4, atol=1e-6 * float(results[0][1].abs().max()))
