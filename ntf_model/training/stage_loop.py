"""What both stages share: the accelerator, the loop and the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from ntf_model.data.loader import BatchSource, read_batches
from ntf_model.data.sampling import BalancedBatches
from ntf_model.detector import Progress
from ntf_model.errors import InputError
from ntf_model.ntf.augment import Batch
from ntf_model.ntf.config import NTFConfig, StageConfig
from ntf_model.ntf.losses import Parts
from ntf_model.training.state import State, load_checkpoint, save_checkpoint


@dataclass
class Stage:
    """One stage as the loop needs it. `loss` gives the loss of a batch over all processes; `after_epoch` adds measures to the epoch's
    entry and says whether it is the best so far; `stop` whether training may end."""

    name: str
    model: nn.Module
    settings: StageConfig
    views: BatchSource
    batches: Callable[[int, int], BalancedBatches]  # (epoch, first batch)
    loss: Callable[[nn.Module, Batch, int], Parts]
    after_epoch: Callable[[nn.Module, dict[str, Any], State], bool]
    stop: Callable[[State], bool] = lambda state: False


def make_accelerator(config: NTFConfig, device: str | torch.device | None = None) -> Accelerator:
    """The accelerator of this process: the launcher's if there is one, otherwise `device` alone."""
    cpu = device is not None and torch.device(device).type == "cpu"
    shared = AcceleratorState._shared_state  # one for the whole process, and its precision cannot be changed
    if (
        shared
        and shared.get("num_processes", 1) == 1
        and (shared.get("_mixed_precision") != config.mixed_precision or shared.get("_cpu") != cpu)
    ):
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=cpu, mixed_precision=config.mixed_precision)


def run_stage(
    stage: Stage, accelerator: Accelerator, config: NTFConfig, output: Path | None, *, resume: bool, on_progress: Progress
) -> tuple[State, dict[str, torch.Tensor]]:
    """Trains `stage.model` in place. Returns the final state and the best epoch's weights on the CPU.

    With `output`, `output/checkpoint/NAME` is written after each epoch and every `checkpoint_every` steps, and `resume` starts from it.
    Raises InputError if the loss is no longer finite.
    """
    model = stage.model.to(accelerator.device)
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(learning, stage.settings)
    model, optimizer = accelerator.prepare(model, optimizer)
    folder = output / "checkpoint" / stage.name if output else None
    state: State = State()
    best: dict[str, Any] = {}
    if folder and resume and (folder / "state.json").is_file():
        state, best = load_checkpoint(folder, accelerator, model, optimizer)
    writer = _writer(output, stage.name) if output and accelerator.is_main_process else None
    per_epoch = stage.batches(0, 0).batches
    total = per_epoch * stage.settings.epochs
    world, accumulation = accelerator.num_processes, config.gradient_accumulation
    steps_per_epoch = -(-per_epoch // accumulation)
    sums = {name: torch.tensor(value, dtype=torch.float64, device=accelerator.device) for name, value in state.sums.items()}
    stream: Any = _stream(stage, state, config, accelerator)
    with closing(stream) as batches:
        for batch in () if state.stopped else batches:
            model.train()
            step = state.epoch * steps_per_epoch + state.batch // accumulation
            group = min(accumulation, per_epoch - state.batch // accumulation * accumulation)  # batches that share this step
            sync = state.batch % accumulation == group - 1
            with nullcontext() if sync else accelerator.no_sync(model):
                parts = stage.loss(model, batch, state.epoch * per_epoch + state.batch)
                accelerator.backward(
                    parts.total * (world / group)
                )  # processes average their gradients, each of which is a part of the whole
            if sync:
                set_learning_rate(optimizer, stage.settings, step, steps_per_epoch * stage.settings.epochs)
                accelerator.clip_grad_norm_(learning, stage.settings.max_gradient)
                optimizer.step()
                optimizer.zero_grad()
            for name, value in {"loss": parts.total.detach(), **parts.terms}.items():
                sums[name] = sums.get(name, 0.0) + value.double()
            state.batch += 1
            on_progress(state.epoch * per_epoch + state.batch, total, _message(stage, state))
            if state.batch == per_epoch:
                if _close_epoch(stage, model, state, {name: float(value) / per_epoch for name, value in sums.items()}):
                    best = _weights(accelerator, model)
                sums = {}
                _log(writer, state.history[-1])
            if folder and (state.batch == 0 or (sync and (step + 1) % config.checkpoint_every == 0)):
                state.sums = {name: float(value) for name, value in sums.items()}
                save_checkpoint(folder, accelerator, model, optimizer, state, best)
            if state.stopped:
                break
    if writer:
        writer.close()
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # takes the mixed-precision forward off again
    return state, best


def _close_epoch(stage: Stage, model: nn.Module, state: State, means: dict[str, float]) -> bool:
    """Moves `state` to the next epoch, and says whether the one that ended is the best so far."""
    entry = {"epoch": state.epoch + 1, **means}
    if not math.isfinite(entry["loss"]):
        raise InputError(f"{stage.name} diverged in epoch {entry['epoch']}", f"Lower {stage.name}.lr or raise the batch size")
    is_best = stage.after_epoch(model, entry, state)
    if is_best:
        state.best = entry
    state.history.append(entry)
    state.epoch, state.batch = state.epoch + 1, 0
    state.stopped = state.epoch == stage.settings.epochs or stage.stop(state)
    return is_best


def make_optimizer(parameters: list[nn.Parameter], settings: StageConfig) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW with the same setting as its first beta."""
    if settings.optimizer == "adamw":
        betas = (settings.momentum, 0.999)
        return torch.optim.AdamW(parameters, settings.lr, betas, weight_decay=settings.weight_decay)
    return torch.optim.SGD(parameters, settings.lr, settings.momentum, weight_decay=settings.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, settings: StageConfig, step: int, steps: int) -> None:
    """The rate of step `step` of `steps`: linear warm-up, then a cosine from `lr` to `final_lr` x `lr`."""
    warm = int(settings.warmup * steps)
    if step < warm:
        factor = (step + 1) / (warm + 1)
    else:
        cosine = (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1))) / 2
        factor = settings.final_lr + (1 - settings.final_lr) * cosine
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * factor


def gather_rows(accelerator: Accelerator, rows: torch.Tensor) -> torch.Tensor:
    """The rows `[n, ...]` of every process, in order of their ranks; gradients flow into this process's own."""
    if accelerator.num_processes == 1:
        return rows
    parts = list(accelerator.gather(rows.detach()).split(len(rows)))
    parts[accelerator.process_index] = rows
    return torch.cat(parts)


def _stream(stage: Stage, state: State, config: NTFConfig, accelerator: Accelerator) -> Iterator[Batch]:
    """All batches from where `state` stands to the end of the last epoch, read ahead across epochs."""
    draws = chain.from_iterable(
        stage.batches(epoch, state.batch if epoch == state.epoch else 0) for epoch in range(state.epoch, stage.settings.epochs)
    )
    return read_batches(stage.views, draws, config.threads, pin=accelerator.device.type == "cuda")


def _message(stage: Stage, state: State) -> str:
    done = f", loss {state.history[-1]['loss']:.4f}" if state.history else ""
    return f"{stage.name}, epoch {state.epoch + 1} of {stage.settings.epochs}{done}"


def _weights(accelerator: Accelerator, model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in accelerator.unwrap_model(model).state_dict().items()}


def _writer(output: Path, name: str) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # a second to import

    return SummaryWriter(str(output / "tensorboard" / name))


def _log(writer: Any, entry: dict[str, Any]) -> None:
    if writer:
        for name, value in entry.items():
            if isinstance(value, (int, float)) and name != "epoch":
                writer.add_scalar(name, value, entry["epoch"])
