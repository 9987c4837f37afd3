"""Checkpoints that a stopped run goes on from exactly: tensors as safetensors, counters as JSON, nothing that could run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from ntf_model.errors import InputError
from ntf_model.runs import write_json


@dataclass
class State:
    """Where a stage stands. `batch` counts the batches of `epoch` that are done, `sums` their losses, `history` is one entry an epoch.
    `best` is the entry of the epoch whose weights are kept; stage 1 keeps its last."""

    epoch: int = 0
    batch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    stopped: bool = False


def save_checkpoint(
    folder: Path, accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, state: State, best: dict[str, torch.Tensor]
) -> None:
    """Weights, momentum and best weights (`state.safetensors`), counters (`state.json`), and each process's random state.

    `state.json` is written last and names the tensors' file, so that a kill at any point leaves the checkpoint before it whole.
    """
    stem = f"{state.epoch:05d}-{state.batch:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_random_state(accelerator.device), folder / f"{stem}-rng{accelerator.process_index}.safetensors")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        tensors = {f"model.{name}": value for name, value in accelerator.unwrap_model(model).state_dict().items()}
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items() if isinstance(value, torch.Tensor)}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        save_file({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, folder / f"{stem}.safetensors")
        scaler = accelerator.scaler.state_dict() if accelerator.scaler else None
        write_json(
            folder / "state.json", {"tensors": stem, "state": asdict(state), "scaler": scaler, "processes": accelerator.num_processes}
        )
        for old in folder.glob("*.safetensors"):
            if not old.name.startswith(stem):
                old.unlink()
    accelerator.wait_for_everyone()


def load_checkpoint(
    folder: Path, accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[State, dict[str, torch.Tensor]]:
    """Puts back what `save_checkpoint` wrote. Raises InputError if it is damaged, of another network, or of another number of processes."""
    try:
        kept = json.loads((folder / "state.json").read_text())
        tensors = _read_tensors(folder / f"{kept['tensors']}.safetensors")
        if kept["processes"] != accelerator.num_processes:
            raise InputError(
                f"{folder} was written by {kept['processes']} processes, not {accelerator.num_processes}",
                "Resume with as many, or start afresh",
            )
        accelerator.unwrap_model(model).load_state_dict(_under(tensors, "model."))
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        momenta: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _under(tensors, "optimizer.").items():
            index, _, key = name.partition(".")
            like = parameters[int(index)]  # in its memory order, or sums come out a little different
            momenta.setdefault(int(index), {})[key] = (
                torch.empty_like(like, device="cpu").copy_(value) if value.shape == like.shape else value
            )
        optimizer.load_state_dict({"state": momenta, "param_groups": optimizer.state_dict()["param_groups"]})
        if accelerator.scaler and kept["scaler"]:
            accelerator.scaler.load_state_dict(kept["scaler"])
        _set_random_state(_read_tensors(folder / f"{kept['tensors']}-rng{accelerator.process_index}.safetensors"), accelerator.device)
        return State(**kept["state"]), _under(tensors, "best.")
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(f"the checkpoint {folder} cannot be used ({reason})", "Delete the folder to start this stage afresh") from None


def _random_state(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _read_tensors(file: Path) -> dict[str, torch.Tensor]:
    with safe_open(file, framework="pt") as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (not a dict)


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
