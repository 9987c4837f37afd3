"""The training loop of NTF's two stages and of the baselines."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn

from foreign.progress import Progress
from ntf_model.data.loader import BatchSource, read_batches
from ntf_model.data.sampling import BalancedBatches
from ntf_model.errors import InputError
from ntf_model.runs import CHECKPOINT_FOLDER, TENSORBOARD_FOLDER
from ntf_model.training.schedules import Schedule
from ntf_model.training.state import State, learnt_tensors, load_checkpoint, save_checkpoint

Losses = tuple[torch.Tensor, dict[str, torch.Tensor]]  # the loss to learn from, and its terms for the log, detached


class EpochEnd(NamedTuple):
    """What was measured after an epoch, and whether it is the best one so far."""

    measures: dict[str, Any]
    is_best: bool


def plain_step(optimizer: Any, backward: Callable[[], torch.Tensor]) -> None:
    """The ordinary step: the gradients of the loss, and then the optimiser."""
    backward()
    optimizer.step()


@dataclass(frozen=True)
class Stage:
    """What the loop needs to know: a stage of NTF, or the training of a baseline.

    `loss` gives the loss of a batch. It is the mean over the batch of all processes if `gathered`, and otherwise over the part of this
    process; the log has the mean over processes. `step` takes a step of the optimiser: `backward` computes the loss of the batch and its
    gradients, as often as it is called.
    `after_epoch` is given the network, the epoch (from 0) and the entry of the best one so far. `start` measures the network before the
    first step. If it is there, the start counts as epoch 0, whose weights are kept where no epoch is better.
    """

    name: str  # of the folder of its checkpoints, and in messages
    network: nn.Module
    optimizer: Callable[[nn.Module], Any]
    schedule: Schedule
    epochs: int
    views: BatchSource
    batches: Callable[[int, int], BalancedBatches]  # of (epoch, first batch)
    loss: Callable[[nn.Module, Any, int], Losses]  # of (network, batch, number of the batch in the whole training)
    after_epoch: Callable[[nn.Module, int, dict[str, Any] | None], EpochEnd]
    start: Callable[[nn.Module], dict[str, Any]] | None = None
    stop: Callable[[State], bool] = lambda state: False  # whether training may end after an epoch
    seed: Callable[[int], int] | None = None  # of torch's random numbers in an epoch; None: they go on
    step: Callable[[Any, Callable[[], torch.Tensor]], object] = plain_step
    gathered: bool = False
    accumulation: int = 1  # batches to an optimiser step
    max_norm: float | None = None  # at which gradients are clipped
    max_value: float | None = None  # to which each value of a gradient is clipped
    threads: int = 4  # that read and augment pictures while the network works
    checkpoint_every: int = 1000  # steps between checkpoints, beside one at the end of each epoch
    advice: str = "Lower `learning_rate`"  # if it diverges

    @property
    def batches_per_epoch(self) -> int:
        return self.batches(0, 0).batches

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.batches_per_epoch // self.accumulation)


def run_stage(
    stage: Stage, accelerator: Accelerator, output: Path | None, *, resume: bool, on_progress: Progress
) -> tuple[State, dict[str, torch.Tensor]]:
    """Trains `stage.network` in place. Returns the final state and the best epoch's weights on the CPU, without what is frozen.

    With `output`, `output/checkpoint/NAME` is written after each epoch and every `checkpoint_every` steps, and `resume` goes on from it.
    Raises InputError if the loss is no longer finite.
    """
    run = _Run(stage, accelerator, output)
    if resume:
        run.resume()
    run.open()
    total = run.per_epoch * stage.epochs
    with closing(run.batches()) as batches:
        for batch in batches:
            synced = run.train_on(batch)
            state = run.state
            on_progress(state.epoch * run.per_epoch + state.batch, total, run.message())
            if state.batch == run.per_epoch:
                run.close_epoch()
            if state.batch == 0 or (synced and run.step % stage.checkpoint_every == 0):
                run.save()
            if state.stopped:
                break
    run.close()
    return run.state, run.best


class _Run:
    """A stage under way."""

    def __init__(self, stage: Stage, accelerator: Accelerator, output: Path | None):
        network = stage.network.to(accelerator.device)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.network, self.optimizer = accelerator.prepare(network, stage.optimizer(network))
        self.stage, self.accelerator = stage, accelerator
        self.folder = output / CHECKPOINT_FOLDER / stage.name if output else None
        self.writer = _writer(output / TENSORBOARD_FOLDER / stage.name) if output and accelerator.is_main_process else None
        self.per_epoch, self.steps_per_epoch = stage.batches_per_epoch, stage.steps_per_epoch
        self.state = State(stopped=stage.epochs == 0 or stage.schedule.rate(0, 0) is None)
        self.best: dict[str, torch.Tensor] = {}
        self.sums: dict[str, Any] = {}
        self.looked = time.perf_counter()

    @property
    def step(self) -> int:
        """Optimiser steps that have been taken."""
        return self.state.epoch * self.steps_per_epoch + -(-self.state.batch // self.stage.accumulation)

    def resume(self) -> None:
        """Goes on from the last checkpoint, if there is one."""
        saved = load_checkpoint(self.folder, self.accelerator, self._bare_network(), self.optimizer) if self.folder else None
        if saved is None:
            return
        self.state, self.best = saved
        for entry in self.state.history:
            self.stage.schedule.record(entry)
        device = self.accelerator.device
        self.sums = {name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in self.state.sums.items()}

    def open(self) -> None:
        """Measures and keeps the network as it starts, if its start is to count and it has not begun to learn."""
        if self.stage.start and self.state.best is None and self.state.epoch == 0 and self.state.batch == 0:
            self.state.best = {"epoch": 0, **self.stage.start(self.network)}
            self._keep_weights()

    def batches(self) -> Generator[Any, None, None]:
        """All batches from where the state stands to the end of the last epoch, read ahead across epochs."""
        state, stage = self.state, self.stage
        epochs = range(state.epoch, state.epoch if state.stopped else stage.epochs)
        draws = chain.from_iterable(stage.batches(epoch, state.batch if epoch == state.epoch else 0) for epoch in epochs)
        return read_batches(stage.views, draws, stage.threads, pin=self.accelerator.device.type == "cuda")

    def train_on(self, batch: Any) -> bool:
        """One batch: its gradients and, if it is the last of its group, a step of the optimiser. Says whether there was a step."""
        stage, state, accelerator = self.stage, self.state, self.accelerator
        if state.batch == 0 and stage.seed is not None:
            torch.manual_seed(stage.seed(state.epoch))
        self.network.train()
        first = state.batch // stage.accumulation * stage.accumulation  # of the batches that share this step
        group = min(stage.accumulation, self.per_epoch - first)
        last = state.batch - first == group - 1
        scale = (accelerator.num_processes if stage.gathered else 1) / group  # processes average their gradients
        evaluated: list[Losses] = []

        def backward() -> torch.Tensor:
            loss, terms = stage.loss(self.network, batch, state.epoch * self.per_epoch + state.batch)
            evaluated.append((loss.detach(), terms))
            accelerator.backward(loss * scale)
            if last and stage.max_norm is not None:
                accelerator.clip_grad_norm_(self.learning, stage.max_norm)
            if last and stage.max_value is not None:
                accelerator.clip_grad_value_(self.learning, stage.max_value)
            return loss

        with nullcontext() if last else accelerator.no_sync(self.network):
            if last:
                self._set_rate(state.epoch * self.steps_per_epoch + state.batch // stage.accumulation)
                stage.step(self.optimizer, backward)
                self.optimizer.zero_grad()
            else:
                backward()
        loss, terms = evaluated[0]
        for name, value in {"loss": loss, **terms}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.double()
        state.batch += 1
        return last

    def close_epoch(self) -> None:
        """Measures the epoch that has ended, keeps its weights if it is the best, and moves on to the next one."""
        stage, state = self.stage, self.state
        means = {name: value / self.per_epoch for name, value in self._shared_sums().items()}
        if not math.isfinite(means["loss"]):
            raise InputError(f"{stage.name} diverged: in epoch {state.epoch + 1} its loss is {means['loss']}", stage.advice)
        measures, is_best = stage.after_epoch(self.network, state.epoch, state.best)
        entry = {"epoch": state.epoch + 1, **means, **measures}
        if is_best:
            state.best = entry
            self._keep_weights()
        self._look_at_clock()
        stage.schedule.record(entry)
        state.history.append(entry)
        state.epoch, state.batch, self.sums = state.epoch + 1, 0, {}
        state.stopped = state.epoch == stage.epochs or stage.stop(state) or stage.schedule.rate(state.epoch, self.step) is None
        self._log(entry)

    def save(self) -> None:
        """Writes a checkpoint, if this run has a folder."""
        if not self.folder:
            return
        if self.state.batch:  # otherwise the present epoch has not begun
            self._look_at_clock()
        self.state.sums = self._shared_sums()
        save_checkpoint(self.folder, self.accelerator, self._bare_network(), self.optimizer, self.state, self.best)

    def close(self) -> None:
        if self.writer:
            self.writer.close()
        self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)  # takes the mixed-precision forward off again

    def message(self) -> str:
        state = self.state
        loss = f", loss {state.history[-1]['loss']:.4f}" if state.history else ""
        return f"{self.stage.name}, epoch {state.epoch + 1} of {self.stage.epochs}{loss}"

    def _keep_weights(self) -> None:
        self.best = {name: value.detach().cpu().clone() for name, value in learnt_tensors(self._bare_network()).items()}

    def _shared_sums(self) -> dict[str, float]:
        """The sums of the losses in the present epoch, each the mean over processes: a checkpoint and the log hold for all of them."""
        return {name: float(self.accelerator.reduce(value, "mean")) for name, value in self.sums.items()}

    def _bare_network(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.network)

    def _set_rate(self, step: int) -> None:
        rate = self.stage.schedule.rate(self.state.epoch, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)  # of a part of the network that learns more slowly

    def _look_at_clock(self) -> None:
        """Adds the time since the last look to the present epoch."""
        now, state = time.perf_counter(), self.state
        state.seconds += [0.0] * (state.epoch + 1 - len(state.seconds))
        state.seconds[state.epoch] += now - self.looked
        self.looked = now

    def _log(self, entry: dict[str, Any]) -> None:
        if self.writer:
            for name, value in entry.items():
                if isinstance(value, (int, float)) and name != "epoch":
                    self.writer.add_scalar(name, value, entry["epoch"])


def _writer(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # a second to import

    return SummaryWriter(str(folder))
