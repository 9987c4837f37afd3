"""The training loop of the baselines: balanced batches, one epoch after another, the best one on validation kept."""

from __future__ import annotations

import copy
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import nn

from ntf_model.data.data import DetectionData, DetectionSplits, ItemDataset, items_of
from ntf_model.data.sampling import BalancedBatches, Draw
from ntf_model.detector import Progress, silent
from ntf_model.errors import InputError
from ntf_model.judging.evaluate import score_data
from ntf_model.runs import write_run
from ntf_model.training.meter import Meter
from ntf_model.training.stage_loop import make_accelerator

if TYPE_CHECKING:
    from ntf_model.recipes.baseline import Baseline, BaselineConfig

Batch = list[torch.Tensor]
CHECKPOINT_FILE = "checkpoint.pt"


class Schedule(Protocol):
    """The learning rate of each epoch (from 0); None ends training. `record` is told the accuracy on validation after each."""

    def rate(self, epoch: int) -> float | None: ...

    def record(self, accuracy: float) -> None: ...


class ByEpoch:
    """A learning rate that follows from the epoch alone."""

    def __init__(self, rate_of: Callable[[int], float]):
        self.rate_of = rate_of

    def rate(self, epoch: int) -> float | None:
        return self.rate_of(epoch)

    def record(self, accuracy: float) -> None:
        pass


class Plateau:
    """Wang et al. 2020, section 3.2: a tenth of the rate when accuracy has not risen by 0.001 (after the first drop 0.002) for five
    epochs, and the end when the rate falls under `lowest`."""

    def __init__(self, start: float, patience: int = 5, lowest: float = 1e-6):
        self.current, self.patience, self.lowest = start, patience, lowest
        self.best, self.waited, self.needed = -np.inf, 0, 0.001

    def rate(self, epoch: int) -> float | None:
        return self.current if self.current >= self.lowest else None

    def record(self, accuracy: float) -> None:
        if accuracy >= self.best + self.needed:
            self.best, self.waited = accuracy, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.current, self.needed, self.waited = self.current / 10, 0.002, 0
            self.best = -np.inf


def read_ahead(detector: Baseline, dataset: ItemDataset, batches: Iterable[list[Draw]], threads: int) -> Iterator[Batch]:
    """The batches of a baseline's training views, in order, made by threads before they are needed. All randomness is the draws' seeds."""

    def read(draws: list[Draw]) -> Batch:
        items = items_of(dataset, [draw.row for draw in draws])
        views = [detector.view(item, np.random.default_rng(draw.seed)) for item, draw in zip(items, draws, strict=True)]
        return [torch.stack(column) for column in zip(*views, strict=True)]

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        try:
            for draws in batches:
                waiting.append(pool.submit(read, draws))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class Validation(NamedTuple):
    """Compared in order: of two epochs with the same AP, the one with the higher accuracy at 0.5 is the better."""

    ap: float
    accuracy: float


Trained = TypeVar("Trained", bound="Baseline")


def train(
    detector: Trained,
    splits: DetectionSplits,
    config: BaselineConfig,
    output: Path | None,
    *,
    resume: bool = False,
    on_progress: Progress = silent,
) -> Trained:
    """Trains `detector` in place and returns it with the weights of the epoch that had the highest AP on validation.

    `config` is what was asked for, as the run's record has it. With `output`, each epoch is saved there, and `resume` goes on after the
    last one saved. Runs under `accelerate launch` on several devices as it does on one.
    """
    detector.begin(splits.train)
    accelerator = make_accelerator(detector.config, detector.device)
    with Meter() as meter:
        log, best = _learn(detector, splits, output if accelerator.is_main_process else None, resume, accelerator, on_progress)
    _restore(detector.network, best["state"])
    detector.network.eval()
    if output and accelerator.is_main_process:
        detector.save_pretrained(output)
        cost = {"seconds": sum(row["seconds"] for row in log), "peak_memory": meter.peak_memory}
        write_run(output, splits, config, {"epochs": log, "best_epoch": best.get("epoch"), **cost})
        (output / CHECKPOINT_FILE).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return detector


def _learn(
    detector: Baseline, splits: DetectionSplits, output: Path | None, resume: bool, accelerator: Any, on_progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All epochs: one row of measurements for each, and the best one's weights ("state")."""
    config = detector.config
    network = accelerator.prepare(detector.network)
    optimizer, schedule = detector.optimizer(network), detector.schedule()
    log: list[dict[str, Any]] = []
    best: dict[str, Any] = {"found": (-np.inf, 0.0), "state": copy.deepcopy(_learnt(detector.network))}
    if resume and output and (output / CHECKPOINT_FILE).is_file():
        saved = _read_checkpoint(output / CHECKPOINT_FILE)
        _restore(detector.network, saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        log, best = saved["log"], saved["best"]
        for row in log:
            schedule.record(row["validation_accuracy"])
    for epoch in range(len(log), config.epochs):
        rate = schedule.rate(epoch)
        if rate is None:
            break
        started = time.perf_counter()
        set_rate(optimizer, rate)
        loss = _epoch(detector, network, optimizer, splits.train, epoch, accelerator, on_progress)
        if config.precise_bn:
            measure_batch_norm(detector, splits.train, epoch, config.precise_bn)
        found = validate(detector, splits.validation)
        schedule.record(found.accuracy)
        row = {"epoch": epoch, "loss": loss, "validation_ap": found.ap, "validation_accuracy": found.accuracy, "learning_rate": rate}
        log.append({**row, "seconds": time.perf_counter() - started})
        state = _learnt(detector.network)
        if tuple(found) > tuple(best["found"]):
            best = {"found": tuple(found), "epoch": epoch, "state": copy.deepcopy(state)}
        if output:
            _write_checkpoint(output, {"network": state, "optimizer": optimizer.state_dict(), "log": log, "best": best})
    accelerator.unwrap_model(network, keep_fp32_wrapper=False)  # takes the mixed-precision forward off again
    return log, best


def measure_batch_norm(detector: Baseline, data: DetectionData, epoch: int, count: int) -> None:
    """Sets the statistics of every BatchNorm to their means over `count` training batches at the present weights.

    The running averages lag behind weights that move fast, and with a momentum of 0.01 (EfficientNet's) they are still near their start
    after a hundred steps, so that a network which has learnt answers at random in testing ("precise BatchNorm", Wu and Johnson 2021).
    """
    layers = [module for module in detector.network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    if not layers:
        return
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
    batches = itertools.islice(BalancedBatches(data, detector.config.batch_size, detector.config.seed, epoch, detector.labels), count)
    detector.network.train()
    with torch.no_grad():
        for batch in read_ahead(detector, data.dataset, batches, detector.config.threads):
            detector.network(batch[0].to(detector.device).flatten(0, -4))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def validate(detector: Baseline, data: DetectionData) -> Validation:
    """AP, and accuracy at 0.5, over the whole split."""
    scores = score_data(detector, data).scores
    return Validation(round(float(average_precision_score(data.labels, scores)), 9), float(np.mean((scores > 0.5) == data.labels)))


def set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _epoch(
    detector: Baseline, network: nn.Module, optimizer: Any, data: DetectionData, epoch: int, accelerator: Any, on_progress: Progress
) -> float:
    """One pass over the training split; the mean loss."""
    config = detector.config
    batches = BalancedBatches(
        data,
        config.batch_size,
        config.seed,
        epoch,
        labels=detector.labels,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    network.train()
    torch.manual_seed(config.seed * 1_000_003 + epoch)  # dropout too is the same after a resumption
    total = 0.0
    for done, batch in enumerate(read_ahead(detector, data.dataset, batches, config.threads)):
        moved = [tensor.to(detector.device) for tensor in batch]

        def backward(moved: Batch = moved) -> torch.Tensor:
            loss = detector.loss(network, moved)
            accelerator.backward(loss)
            return loss

        loss = detector.step(network, optimizer, backward)
        if not torch.isfinite(loss):
            raise InputError(f"{detector.name}: the loss is {loss.item()} in epoch {epoch}", "Lower `learning_rate`")
        total += loss.item()
        on_progress(epoch * len(batches) + done + 1, config.epochs * len(batches), f"training {detector.name}")
    return total / max(1, len(batches))


def _learnt(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state without what is frozen: of a linear layer on a large backbone only the layer."""
    frozen = {name for name, value in network.named_parameters() if not value.requires_grad}
    return {name: value for name, value in network.state_dict().items() if name not in frozen}


def _restore(network: nn.Module, learnt: dict[str, torch.Tensor]) -> None:
    network.load_state_dict({**network.state_dict(), **learnt})


def _write_checkpoint(output: Path, saved: dict[str, Any]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    partial = output / (CHECKPOINT_FILE + ".partial")
    torch.save(saved, partial)
    partial.replace(output / CHECKPOINT_FILE)


def _read_checkpoint(file: Path) -> dict[str, Any]:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{file} is damaged ({str(error).splitlines()[0]})", "Delete it to begin again") from None
