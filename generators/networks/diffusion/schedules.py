"""Noise schedules: those of saved pipelines, whose scheduler's class is looked at, and those of the original repositories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from generators.diffusers_files import load_part
from generators.errors import CheckpointError

# The schedule that all models of Ho et al. were trained with, and the sampling settings of their releases on the Hub.
HO_SCHEDULE: dict[str, Any] = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
HO_SCHEDULE |= {"clip_sample": True, "variance_type": "fixed_small"}
HO_STEPS = 1000
# Schedulers of diffusers whose configuration is betas and what the network predicts, so that DDPM, DDIM and PNDM can walk it too.
# Others (EDM, VE, flow matching, consistency) ask something else of the network.
VARIANCE_PRESERVING = frozenset(
    f"{name}Scheduler"
    for name in (
        "DDPM",
        "DDIM",
        "DDPMParallel",
        "DDIMParallel",
        "PNDM",
        "DPMSolverMultistep",
        "DPMSolverSinglestep",
        "DEISMultistep",
        "UniPCMultistep",
        "EulerDiscrete",
        "EulerAncestralDiscrete",
        "HeunDiscrete",
        "LMSDiscrete",
        "KDPM2Discrete",
        "KDPM2AncestralDiscrete",
    )
)


def schedule_of_folder(folder: Path, cls: Any) -> dict[str, Any]:
    """The scheduler configuration of a saved pipeline, read as `cls` of diffusers. CheckpointError if its schedule is of another kind."""
    scheduler = load_part(folder, "scheduler", cls)
    return require_known(dict(cls.load_config(_place(folder), local_files_only=True)), dict(scheduler.config), str(folder))


def require_known(saved: Mapping[str, Any], schedule: dict[str, Any], source: str) -> dict[str, Any]:
    """`schedule` if the scheduler that was `saved` is one whose noise DDPM, DDIM and PNDM take away too."""
    name = str(saved.get("_class_name", "DDPMScheduler"))
    if name not in VARIANCE_PRESERVING:
        raise CheckpointError(
            f"{source}: its scheduler is a {name}, and its network was trained for that one's noise",
            "DDPM, DDIM, PNDM and LDM sample networks that predict the noise of a schedule of betas (DDPMScheduler and its relatives)",
        )
    return schedule


def original_schedule(options: Mapping[str, Any]) -> dict[str, Any]:
    """The schedule of a file of guided-diffusion or improved-diffusion, by their own settings.

    `noise_schedule` is "linear" (the default; Ho's betas, scaled so that any number of steps ends at the same noise) or "cosine" (Nichol
    and Dhariwal 2021, equation 17). `diffusion_steps` is 1000 by default. `rescale_timesteps` tells the network the timestep as if there
    were 1000; by default it does, as improved-diffusion, whose releases alone have another number of steps. `predict_xstart`: the network
    predicts the image and not the noise.
    """
    steps = int(options.get("diffusion_steps", HO_STEPS))
    name = options.get("noise_schedule", "linear")
    schedule: dict[str, Any] = {**HO_SCHEDULE, "num_train_timesteps": steps}
    if name == "cosine":
        schedule["beta_schedule"] = "squaredcos_cap_v2"
    elif name == "linear":
        scale = HO_STEPS / steps
        schedule |= {"beta_start": scale * HO_SCHEDULE["beta_start"], "beta_end": scale * HO_SCHEDULE["beta_end"]}
    else:
        raise CheckpointError(f"there is no noise_schedule {name!r}", "Known: linear, cosine")
    if options.get("predict_xstart", False):
        schedule["prediction_type"] = "sample"
    if options.get("rescale_timesteps", True) and steps != HO_STEPS:
        schedule["timestep_scale"] = HO_STEPS / steps
    return schedule


def _place(folder: Path) -> Path:
    return folder / "scheduler" if (folder / "scheduler").is_dir() else folder
