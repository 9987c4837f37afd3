"""The training loop of the baselines: balanced batches, one epoch after another, the best one on validation kept."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import nn

from ntf_model.data import DetectionData, DetectionSplits, ItemDataset
from ntf_model.detector import Progress, silent
from ntf_model.errors import InputError
from ntf_model.runs import write_run
from ntf_model.sampling import BalancedBatches, Draw

if TYPE_CHECKING:
    from ntf_model.recipes.baseline import Baseline

Batch = list[torch.Tensor]
CHECKPOINT_FILE = "checkpoint.pt"


class Schedule(Protocol):
    """The learning rate of each epoch (from 0); None ends training. `record` is told the accuracy on validation after each."""

    def rate(self, epoch: int) -> float | None: ...

    def record(self, accuracy: float) -> None: ...


class ByEpoch:
    """A learning rate that follows from the epoch alone."""

    def __init__(self, rate_of: Any):
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


class Views(torch.utils.data.Dataset):
    """A baseline's training views of a dataset, as a DataLoader with `BalancedBatches` reads them. All randomness is the draw's seed."""

    def __init__(self, dataset: ItemDataset, detector: Baseline):
        self.dataset, self.view = dataset, detector.view

    def __getitem__(self, draw: Draw) -> tuple[torch.Tensor, ...]:
        item = self.dataset[draw.row]
        return self.view(item, np.random.default_rng(draw.seed))

    def __len__(self) -> int:
        return len(self.dataset)


class Validation(NamedTuple):
    """Compared in order: of two epochs with the same AP, the one with the higher accuracy at 0.5 is the better."""

    ap: float
    accuracy: float


def train(
    detector: Baseline, splits: DetectionSplits, output: Path | None, *, resume: bool = False, on_progress: Progress = silent
) -> Baseline:
    """Trains `detector` in place and returns it with the weights of the epoch that had the highest AP on validation.

    With `output`, each epoch is saved there, and `resume` goes on after the last one saved. Runs under `accelerate launch` on several
    devices as it does on one.
    """
    from accelerate import Accelerator

    config = detector.config
    detector.begin(splits.train)
    accelerator = Accelerator(cpu=detector.device.type == "cpu")
    network = accelerator.prepare(detector.network)
    optimizer, schedule = detector.optimizer(network), detector.schedule()
    log: list[dict[str, Any]] = []
    best: dict[str, Any] = {"found": (-np.inf, 0.0), "state": copy.deepcopy(detector.network.state_dict())}
    if resume and output and (output / CHECKPOINT_FILE).is_file():
        saved = _read_checkpoint(output / CHECKPOINT_FILE)
        detector.network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        log, best = saved["log"], saved["best"]
        for row in log:
            schedule.record(row["validation_accuracy"])
    _reset_peak_memory()
    for epoch in range(len(log), config.epochs):
        rate = schedule.rate(epoch)
        if rate is None:
            break
        started = time.perf_counter()
        set_rate(optimizer, rate)
        loss = _epoch(detector, network, optimizer, splits.train, epoch, accelerator, on_progress)
        found = validate(detector, splits.validation)
        schedule.record(found.accuracy)
        row = {"epoch": epoch, "loss": loss, "validation_ap": found.ap, "validation_accuracy": found.accuracy, "learning_rate": rate}
        log.append({**row, "seconds": time.perf_counter() - started})
        if tuple(found) > tuple(best["found"]):
            best = {"found": tuple(found), "epoch": epoch, "state": copy.deepcopy(detector.network.state_dict())}
        if output and accelerator.is_main_process:
            _write_checkpoint(
                output, {"network": detector.network.state_dict(), "optimizer": optimizer.state_dict(), "log": log, "best": best}
            )
    detector.network.load_state_dict(best["state"])
    detector.network.eval()
    if output and accelerator.is_main_process:
        detector.save_pretrained(output)
        metrics = {
            "epochs": log,
            "best_epoch": best.get("epoch"),
            "seconds": sum(row["seconds"] for row in log),
            "peak_memory_bytes": peak_memory(),
        }
        write_run(output, splits, config, metrics)
        (output / CHECKPOINT_FILE).unlink(missing_ok=True)
    return detector


def validate(detector: Baseline, data: DetectionData) -> Validation:
    """AP, and accuracy at 0.5, over the whole split."""
    from ntf_model.evaluate import score_data

    scores = score_data(detector, data).scores
    return Validation(round(float(average_precision_score(data.labels, scores)), 9), float(np.mean((scores > 0.5) == data.labels)))


def set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def peak_memory() -> int:
    """Bytes: of the GPU where there is one, otherwise the largest resident size that this process has had."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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
    spawn = {"multiprocessing_context": "spawn"} if config.workers else {}  # a dataset over Lance does not survive a fork
    loader = torch.utils.data.DataLoader(Views(data.dataset, detector), batch_sampler=batches, num_workers=config.workers, **spawn)
    network.train()
    total = 0.0
    for done, batch in enumerate(loader):
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


def _reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
