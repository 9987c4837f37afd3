"""Checkpoints that a stopped training goes on from exactly: tensors as safetensors, counters as JSON, nothing that could run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from foreign.json_files import read_json
from ntf_model.errors import InputError, counted
from ntf_model.files import write_json, write_tensors
from ntf_model.runs import STATE_FILE, read_tensors


@dataclass
class State:
    """Where a training stands. `batch` counts the batches of `epoch` that are done, `sums` their losses; `history` has an entry for each
    epoch that has ended, and `seconds` how long each epoch took, the present one so far. `best` is the entry of the epoch whose weights are
    kept."""

    epoch: int = 0
    batch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best: dict[str, Any] | None = None
    stopped: bool = False


def learnt_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """The network's tensors without those that are frozen: of a linear layer on a large backbone only the layer."""
    frozen = {name for name, value in network.named_parameters() if not value.requires_grad}
    return {name: value for name, value in network.state_dict().items() if name not in frozen}


def restore_tensors(network: nn.Module, learnt: Mapping[str, torch.Tensor]) -> None:
    """Copies what `learnt_tensors` gave back into `network`. Raises RuntimeError if it is of another network."""
    missing = learnt_tensors(network).keys() - learnt.keys()
    if missing:
        raise RuntimeError(f"it has no tensor {min(missing)}")
    network.load_state_dict({**network.state_dict(), **learnt})


def save_checkpoint(
    folder: Path, accelerator: Accelerator, network: nn.Module, optimizer: Any, state: State, best: dict[str, torch.Tensor]
) -> None:
    """Weights, momentum and best weights (`EPOCH-BATCH.safetensors`), counters (`state.json`), and each process's random state.

    `state.json` is written last and names the tensors' file, so that a kill at any point leaves the checkpoint before it whole.
    """
    stem = f"{state.epoch:05d}-{state.batch:06d}"
    write_tensors(folder / f"{stem}-rng{accelerator.process_index}.safetensors", _random_state(accelerator.device))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        tensors = {f"model.{name}": value for name, value in learnt_tensors(network).items()}
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items() if isinstance(value, torch.Tensor)}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        write_tensors(folder / f"{stem}.safetensors", tensors)
        scaler = accelerator.scaler.state_dict() if accelerator.scaler else None
        write_json(folder / STATE_FILE, {"tensors": stem, "state": asdict(state), "scaler": scaler, "processes": accelerator.num_processes})
        for old in folder.glob("*.safetensors"):
            if not old.name.startswith(stem):
                old.unlink()
    accelerator.wait_for_everyone()


def load_checkpoint(
    folder: Path, accelerator: Accelerator, network: nn.Module, optimizer: Any
) -> tuple[State, dict[str, torch.Tensor]] | None:
    """Puts back what `save_checkpoint` wrote: the state and the best weights. None if there is no checkpoint.

    Raises InputError if it is damaged, of another network, or of another number of processes.
    """
    if not (folder / STATE_FILE).is_file():
        return None
    try:
        saved = read_json(folder / STATE_FILE)
        tensors = read_tensors(folder / f"{saved['tensors']}.safetensors")
        if saved["processes"] != accelerator.num_processes:
            raise InputError(
                f"{folder} was written by {counted(saved['processes'], 'process')}, not {accelerator.num_processes}",
                "Resume with as many, or delete the folder to begin again",
            )
        restore_tensors(network, _under(tensors, "model."))
        _restore_optimizer(optimizer, _under(tensors, "optimizer."))
        if accelerator.scaler and saved["scaler"]:
            accelerator.scaler.load_state_dict(saved["scaler"])
        _set_random_state(read_tensors(folder / f"{saved['tensors']}-rng{accelerator.process_index}.safetensors"), accelerator.device)
        return State(**saved["state"]), _under(tensors, "best.")
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(f"the checkpoint {folder} cannot be used ({reason})", "Delete the folder to begin again") from None


def _restore_optimizer(optimizer: Any, values: dict[str, torch.Tensor]) -> None:
    """Momentum and its like, saved as "PARAMETER.NAME"."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    momenta: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in values.items():
        index, _, key = name.partition(".")
        like = parameters[int(index)]  # in its memory order, or sums come out a little different
        momenta.setdefault(int(index), {})[key] = torch.empty_like(like, device="cpu").copy_(value) if value.shape == like.shape else value
    optimizer.load_state_dict({"state": momenta, "param_groups": optimizer.state_dict()["param_groups"]})


def _random_state(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
