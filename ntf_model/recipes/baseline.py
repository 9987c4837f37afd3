"""What the baselines share in training: balanced batches, one epoch after another, the best one on validation kept."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from accelerate import Accelerator
from pydantic import Field
from sklearn.metrics import average_precision_score
from torch import nn

from ntf_model.data.data import DetectionData, DetectionSplits, Item, ItemDataset, items_of
from ntf_model.data.loader import read_batches
from ntf_model.data.sampling import BalancedBatches, Draw
from ntf_model.detector import DetectorConfig, TrainingRun
from ntf_model.encoders.adapting import freeze_unreached
from ntf_model.judging.evaluate import score_data
from ntf_model.recipes.network import NetworkDetector
from ntf_model.runs import CHECKPOINT_FOLDER, write_run
from ntf_model.training.batch_norm import measure_batch_norm
from ntf_model.training.loop import EpochEnd, Losses, Stage, plain_step, run_stage
from ntf_model.training.meter import Meter
from ntf_model.training.processes import make_accelerator, own_random_numbers
from ntf_model.training.schedules import Plateau, Schedule
from ntf_model.training.state import restore_tensors

Batch = tuple[torch.Tensor, ...]


class BaselineConfig(DetectorConfig):
    """Settings that every baseline has. The defaults of each are its authors' recipe."""

    size: int = Field(224, ge=16)  # height and width that the network is trained on
    epochs: int = Field(100, ge=0)
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(1e-4, gt=0)
    init: str | None = None  # a file (for ResNets also a transformers folder) of ImageNet weights to start from; None: random
    precise_bn: int = Field(0, ge=0)  # batches by which BatchNorm's statistics are measured after each epoch; 0: the running averages
    mixed_precision: Literal["no", "bf16"] = "no"
    pairs: bool = False  # whether each fake of a batch stands beside the very real picture that it was made from
    threads: int = Field(4, gt=0)  # that read and augment pictures while the network works
    checkpoint_every: int = Field(1000, gt=0)  # steps between checkpoints, beside one at the end of each epoch


class Validation(NamedTuple):
    """Compared in order: of two epochs with the same AP, the one with the higher accuracy at 0.5 is the better."""

    ap: float
    accuracy: float


class Baseline(NetworkDetector):
    """A network detector that is trained by gradient steps."""

    Config: ClassVar[type[BaselineConfig]] = BaselineConfig
    labels: ClassVar[tuple[int, ...]] = (0, 1)  # which classes it learns from
    clip_value: ClassVar[float | None] = None  # gradients are cut to this, value by value

    @abstractmethod
    def view(self, item: Item, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """A training example from one picture: tensors that are stacked over the batch, the first of them the network's input."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        """The loss of a batch of `view`s."""

    def optimizer(self, network: nn.Module) -> Any:
        return torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=self.config.learning_rate)

    def schedule(self) -> Schedule:
        return Plateau(self.config.learning_rate)

    def begin(self, data: DetectionData) -> None:
        """Called with the training split before training: for recipes whose views need more than one picture."""

    def step(self, optimizer: Any, backward: Callable[[], torch.Tensor]) -> None:
        """One step of the optimizer; `backward` computes the loss and its gradients."""
        plain_step(optimizer, backward)

    @classmethod
    def train(cls, splits: DetectionSplits, config: Any, run: TrainingRun) -> Self:
        """Trains with the weights of the epoch that has the highest AP on validation as the outcome.

        `run.json` has the configuration as it was asked for. While the training runs, `checkpoint/` in `output` holds what a resumed run
        goes on from. Works under `accelerate launch` on several devices as it does on one.
        """
        accelerator = make_accelerator(config.mixed_precision, run.device)
        with own_random_numbers(accelerator, config.seed), Meter(accelerator.device) as meter:
            detector = cls(config, cls.build(config), accelerator.device)
            if accelerator.num_processes > 1:
                freeze_unreached(detector.network)
            detector.begin(splits.train)
            stage = detector._stage(splits, accelerator)
            state, best = run_stage(stage, accelerator, run.output, resume=run.resume, on_progress=run.on_progress)
        if best:  # there is none without an epoch
            restore_tensors(detector.network, best)
        detector.network.eval()
        if run.output and accelerator.is_main_process:
            detector.save_pretrained(run.output)
            epochs = [{**entry, "seconds": seconds} for entry, seconds in zip(state.history, state.seconds, strict=True)]
            best_epoch = state.best["epoch"] if state.best else None
            cost = {"seconds": sum(state.seconds), "peak_memory": meter.peak_memory}
            write_run(run.output, splits, config, {"epochs": epochs, "best_epoch": best_epoch, **cost})
            shutil.rmtree(run.output / CHECKPOINT_FOLDER / cls.name, ignore_errors=True)
        accelerator.wait_for_everyone()
        return detector

    def _stage(self, splits: DetectionSplits, accelerator: Accelerator) -> Stage:
        """The training as the loop needs it."""
        config, schedule = self.config, self.schedule()
        views = DetectorViews(self, splits.train.dataset)

        def batches(epoch: int, start: int) -> BalancedBatches:
            rank, world = accelerator.process_index, accelerator.num_processes
            return BalancedBatches(splits.train, config.batch_size, config.seed, epoch, self.labels, rank, world, start, config.pairs)

        def loss(network: nn.Module, batch: Batch, number: int) -> Losses:
            return self.loss(network, tuple(tensor.to(self.device, non_blocking=True) for tensor in batch)), {}

        def inputs(epoch: int) -> Iterator[torch.Tensor]:
            drawn = BalancedBatches(splits.train, config.batch_size, config.seed, epoch, self.labels, pairs=config.pairs)
            for batch in read_batches(views, islice(drawn, config.precise_bn), config.threads):
                yield batch[0].to(self.device).flatten(0, -4)

        def after_epoch(network: nn.Module, epoch: int, best: dict[str, Any] | None) -> EpochEnd:
            if config.precise_bn:
                measure_batch_norm(self.network, inputs(epoch))
            now = validate(self, splits.validation)
            measures = {"validation_ap": now.ap, "validation_accuracy": now.accuracy, "learning_rate": schedule.rate(epoch, 0)}
            return EpochEnd(measures, best is None or now > Validation(best["validation_ap"], best["validation_accuracy"]))

        return Stage(
            self.name,
            self.network,
            self.optimizer,
            schedule,
            config.epochs,
            views,
            batches,
            loss,
            after_epoch,
            seed=lambda epoch: config.seed * 1_000_003 + epoch,
            step=self.step,
            max_value=self.clip_value,
            threads=config.threads,
            checkpoint_every=config.checkpoint_every,
        )


@dataclass(frozen=True)
class DetectorViews:
    """Makes batches of a baseline's own training examples."""

    detector: Baseline
    dataset: ItemDataset

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """What `Baseline.view` gives, each of its tensors stacked over the batch."""
        items = items_of(self.dataset, [draw.row for draw in draws])
        views = [self.detector.view(item, np.random.default_rng(draw.seed)) for item, draw in zip(items, draws, strict=True)]
        return tuple(torch.stack(column) for column in zip(*views, strict=True))


def validate(detector: Baseline, data: DetectionData) -> Validation:
    """AP, and accuracy at 0.5, over the whole split."""
    scores = score_data(detector, data).scores
    return Validation(round(float(average_precision_score(data.labels, scores)), 9), float(np.mean((scores > 0.5) == data.labels)))
