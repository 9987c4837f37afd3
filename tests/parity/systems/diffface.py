"""DiffFace: its UNet, its guidance term by term, and its sampling loops, all loaded as the diffface method loads them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from generators.checkpoints import Checkpoint
from generators.faces.guidance import Scene, Weights, total
from generators.methods.diffface import DiffFace, composite, mask_strength
from generators.networks.diffusion.respaced import Respaced
from generators.networks.faces.arcface import ArcFace
from generators.networks.faces.bisenet import BiSeNet
from generators.networks.faces.gaze import GazeNet
from tests.parity.cases import Case, _normal
from tests.parity.systems.guided_diffusion import noted_input

TERMS = {
    "id": Weights(parsing=0, gaze=0, preservation=0),
    "seg": Weights(identity=0, gaze=0, preservation=0),
    "mse": Weights(identity=0, parsing=0, gaze=0),
    "all": Weights(gaze=0),
}
TINY = {"num_head_channels": 16}  # of the case `tiny32`, whose UNet the guidance cases use
OFFICIAL_STEPS, OFFICIAL_THRESHOLD = 75, 30  # written into the official code's mask whatever the number of steps


def check(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = _load(case, Path(folder))
    if "netArc" in case.facts["weights"]:
        _check_gradients(case, model)
        _check_loops(case, model)
    else:
        _check_network(case, model)


def _load(case: Case, folder: Path) -> DiffFace:
    """Every network from a file of its release's form; those that a case does not have are new ones, and not used."""
    torch.save(case.weights("model"), folder / "Model.pt")
    own = case.facts["weights"]
    arcface = case.weights("netArc") if "netArc" in own else ArcFace((1, 1, 1, 1)).state_dict()
    parser = case.weights("netSeg") if "netSeg" in own else BiSeNet().state_dict()
    torch.save({"model": {f"module.{key}": value for key, value in arcface.items()}}, folder / "Arcface.tar")
    torch.save(parser, folder / "FaceParser.pth")
    torch.save({"nstack": 3, "model_state_dict": GazeNet().state_dict()}, folder / "GazeEstimator.pt")
    files = {"arcface": "Arcface.tar", "face_parser": "FaceParser.pth", "gaze": "GazeEstimator.pt"}
    size = case.arrays["guid_x"].shape[-1] if "guid_x" in case.arrays else case.config["image_size"]
    options = {**TINY, "image_size": size, **case.config}
    return DiffFace.load(Checkpoint(folder / "Model.pt", options, {role: Checkpoint(folder / file) for role, file in files.items()}))


def _check_network(case: Case, model: DiffFace) -> None:
    x, t = noted_input(case), case.tensor("t")
    embedded = model.embed(case.tensor("id"))
    with torch.inference_mode():
        for name, time in (("out", float(t)), ("out_t0", 0.0)):
            case.compare(name, torch.cat(model.predict(x, time, embedded), 1))


def _scene(case: Case, model: DiffFace) -> Scene:
    """The case's pair with the case's own mask."""
    with torch.no_grad():
        scene = model.guidance.prepare(case.tensor("src_image"), case.tensor("targ_image"))
    return replace(scene, masks=case.tensor("mask"))


def _check_gradients(case: Case, model: DiffFace) -> None:
    """Each gradient within ten times the relative difference that two thread counts of the official code show."""
    schedule, scene = Respaced(len(case.facts["timestep_map"])), _scene(case, model)
    assert schedule.timesteps == case.facts["timestep_map"]
    case.compare("alphas_cumprod", schedule.alphas_cumprod, 1e-6)
    case.compare("sqrt_one_minus_alphas_cumprod", [schedule.noise_share(k) for k in range(len(schedule.timesteps))], 1e-6)
    embedded, x = model.embed(case.tensor("id")), case.tensor("guid_x")
    for name in case.arrays:
        match = re.fullmatch(r"cond_fn_grad_(?:(id|seg|mse|all)_)?t(\d+)", name)
        if match:
            gradient = _gradient(model, x, schedule, int(match[2]), embedded, scene, TERMS[match[1] or "all"])
            _compare_gradient(case, name, gradient)


def _gradient(
    model: DiffFace, x: torch.Tensor, schedule: Respaced, k: int, embedded: torch.Tensor, scene: Scene, weights: Weights
) -> torch.Tensor:
    x = x.clone().requires_grad_()
    eps, _ = model.predict(x, schedule.timesteps[k], embedded)
    share = schedule.noise_share(k)
    images = schedule.start(x, eps, k) * share + x * (1 - share)
    terms = model.guidance.losses(images, scene, weights, rngs=[], with_gaze=False)
    return -torch.autograd.grad(total(terms), x)[0]


def _compare_gradient(case: Case, name: str, gradient: torch.Tensor) -> None:
    wanted, tolerance = case.tensor(name), case.facts["tolerance"]
    relative = tolerance.get(f"{name}_threads_relL2")
    if relative is None:  # the total, which is not to be judged strictly: one sign flip of the parsing term moves it
        case.compare(name, gradient, max(10 * value for key, value in tolerance.items() if key.startswith(name) and "threads" in key))
        return
    off = float((gradient - wanted).norm() / wanted.norm())
    assert off <= 10 * relative, f"{case.id} {name}: off by {off:.3g} of its norm, allowed {10 * relative:.3g}"


def _check_loops(case: Case, model: DiffFace) -> None:
    scene = _scene(case, model)
    runs: dict[tuple[str, str], list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for name in case.arrays:
        match = re.fullmatch(r"(ddpm|ddim)_(unguided|masked|l2guided_masked)_(?:final|step(\d+))_(sample|x0)", name)
        if match:
            sampler, kind, step, part = match.groups()
            if (sampler, kind) not in runs:
                runs[sampler, kind] = _run(case, model, scene, sampler, kind)
            _compare(case, name, runs[sampler, kind][int(step) if step else -1][part == "x0"])
    _, start = runs["ddpm", "l2guided_masked"][-1]
    _compare(case, "final_composite_l2guided", ((composite(start, scene) + 1) / 2).clamp(0, 1)[0])


def _run(case: Case, model: DiffFace, scene: Scene, sampler: str, kind: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    schedule = Respaced(len(case.facts["timestep_map"]))
    draw, first = _numbered_noise(tuple(scene.targets.shape)), case.facts["n_steps"] - 1

    def guide(images: torch.Tensor, k: int) -> list[torch.Tensor]:
        return [total(model.guidance.losses(images, scene, TERMS["mse"], rngs=[], with_gaze=False))]

    def blend(x: torch.Tensor, k: int) -> torch.Tensor:
        soft = scene.masks * mask_strength(k, OFFICIAL_STEPS, OFFICIAL_THRESHOLD)
        return x * soft + schedule.noised(scene.targets, k, draw()) * (1 - soft)

    x = schedule.noised(scene.targets, first, draw())
    guided = guide if kind.startswith("l2guided") else None
    blended = blend if kind.endswith("masked") else None
    with torch.no_grad():
        return list(model.walk(x, model.embed(case.tensor("id")), schedule, first, draw, guided, blended, ddim=sampler == "ddim"))


def _numbered_noise(shape: tuple[int, ...]) -> Callable[[], torch.Tensor]:
    numbers = iter(range(1, 10_000))
    return lambda: torch.from_numpy(np.ascontiguousarray(_normal(f"noise:{next(numbers)}", shape)))


def _compare(case: Case, name: str, got: torch.Tensor) -> None:
    """Within 1e-4 of the spread; the differences that the case lists are of gradients, and much larger."""
    case.compare(name, got, 1e-4 * case.facts["arrays"][name]["std"])
