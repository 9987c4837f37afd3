"""The two stages of Natural Trace Forensics: learn what real pictures share, then tell fakes by their distance to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from foreign.progress import Progress
from ntf_model.data.data import FAKE, REAL, DetectionData, DetectionSplits
from ntf_model.data.loader import Batch
from ntf_model.data.sampling import BalancedBatches, Draw
from ntf_model.judging.metrics import average_precision
from ntf_model.ntf.augment import Views, to_tensor
from ntf_model.ntf.config import NTFConfig, StageConfig
from ntf_model.ntf.inference import predict_data, trace_features
from ntf_model.ntf.losses import JointLoss, detection_loss, spread, trace_loss
from ntf_model.ntf.memory import prototypes
from ntf_model.ntf.network import DetectionNetwork, TraceNetwork
from ntf_model.training.loop import EpochEnd, Stage, run_stage
from ntf_model.training.processes import gather_rows
from ntf_model.training.schedules import WarmupCosine
from ntf_model.training.state import State, restore_tensors

VIEWS_KEPT = 4  # of each picture, where a frozen encoder's embeddings are made once
TINY = 1e-7  # keeps the logarithm of a probability finite


class Trace(NamedTuple):
    """What stage 2 needs of the frozen teacher, made once: its z_hom of every training picture that is real (unit `[N, d]`, zero rows
    for fakes), and their normalised mean `[d]`, the prototype that a picture's distance is measured to."""

    features: torch.Tensor
    prototype: torch.Tensor  # `[d]`, or with a memory `[K, d]`, of which the nearest counts


def learn_trace(
    network: TraceNetwork,
    train: DetectionData,
    config: NTFConfig,
    accelerator: Accelerator,
    output: Path | None,
    *,
    resume: bool,
    on_progress: Progress,
) -> list[dict[str, Any]]:
    """Stage 1 on the reals of `train`, in place. Returns the history: the losses of each epoch and the spread of z_hom at its end."""
    settings = config.stage1
    wanted = [value.requires_grad for value in network.encoder.parameters()]
    if settings.freeze_encoder:
        network.encoder.requires_grad_(False)
    last: dict[str, torch.Tensor] = {}

    def loss(model: nn.Module, batch: Batch, step: int) -> JointLoss:
        pixels = batch.pixels.to(accelerator.device, non_blocking=True).transpose(0, 1).flatten(0, 1)  # pinned as they are read
        views = to_tensor(pixels, network.encoder.mean, network.encoder.std, accelerator.device)
        hom, het = (_gather_views(accelerator, z.float()) for z in model(views))
        last["hom"] = hom.detach()
        parts = trace_loss(
            hom,
            het,
            gather_rows(accelerator, batch.rows.to(accelerator.device, non_blocking=True)).repeat(2),
            lambda_=settings.lambda_,
            temperature=settings.temperature,
            terms=settings.terms,
            hom_over=settings.hom_over,
            orthogonal=settings.orthogonal,
            reduction=settings.reduction,
        )
        return JointLoss(parts.total + 0.0 * (hom.sum() + het.sum()), parts.terms)  # a head without a loss still takes part in the exchange

    def after_epoch(model: nn.Module, epoch: int, best: dict[str, Any] | None) -> EpochEnd:
        return EpochEnd({f"hom_{name}": value for name, value in spread(last["hom"]).items()}, epoch + 1 == settings.epochs)

    def batches(epoch: int, start: int) -> BalancedBatches:
        return _batches(train, settings.batch_size, config, accelerator, epoch, start, (REAL,))

    views = Views(train.dataset, config.augmentation.view, network.encoder.crop, views=2)
    stage = _stage("stage1", network, settings, config, views=views, batches=batches, loss=loss, after_epoch=after_epoch)
    state, weights = run_stage(stage, accelerator, output, resume=resume, on_progress=on_progress)
    restore_tensors(network, weights)
    for parameter, value in zip(network.encoder.parameters(), wanted, strict=True):
        parameter.requires_grad_(value)
    return state.history


def find_trace(network: TraceNetwork, train: DetectionData, config: NTFConfig, device: torch.device) -> Trace:
    """The teacher's work for the whole of stage 2: z_hom of each real training picture's centre crop, detached."""
    real = np.flatnonzero(train.labels == REAL)
    of_reals = trace_features(network.to(device), train.take(real), config, device).clone()
    features = of_reals.new_zeros(len(train), of_reals.shape[1])
    features[torch.from_numpy(real).to(device)] = of_reals
    if config.stage2.trace == "memory":
        return Trace(features, prototypes(of_reals, config.stage2.prototypes, config.seed))
    return Trace(features, F.normalize(of_reals.mean(0), dim=0))


def learn_detection(
    network: DetectionNetwork,
    trace: Trace | None,
    splits: DetectionSplits,
    config: NTFConfig,
    accelerator: Accelerator,
    output: Path | None,
    *,
    resume: bool,
    on_progress: Progress,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Stage 2, in place: the network is left with the weights of the epoch of the best validation AP. Returns the history and that epoch's
    entry. `trace` may be None if `stage2.contrastive` is "none"."""
    settings, train, device = config.stage2, splits.train, accelerator.device

    def loss(model: nn.Module, batch: Batch, step: int) -> JointLoss:
        inputs = batch.pixels[:, 0]
        inputs = (
            inputs.to(device, non_blocking=True) if network.frozen else to_tensor(inputs, network.encoder.mean, network.encoder.std, device)
        )
        z, logits = model(inputs)
        if settings.patch:
            z, _ = model(_patch(inputs, settings.patch, config.seed, step))
        z, logits = (gather_rows(accelerator, value.float()) for value in (z, logits))
        labels, rows = (gather_rows(accelerator, value.to(device, non_blocking=True)) for value in (batch.labels, batch.rows))
        z = network.standardise(z)
        parts = detection_loss(
            z,
            logits,
            labels == FAKE,
            z.detach()[:1] if trace is None else _batch_trace(trace, settings.trace, rows[labels == REAL]),
            gamma=settings.gamma,
            contrastive=settings.contrastive,
            nearest=settings.trace == "memory",
            temperature=settings.temperature,
        )
        return JointLoss(parts.total + 0.0 * z.sum(), parts.terms)

    def measure(model: nn.Module) -> dict[str, float]:
        return _validate(accelerator.unwrap_model(model), splits.validation, config, accelerator)

    def after_epoch(model: nn.Module, epoch: int, best: dict[str, Any] | None) -> EpochEnd:
        measures = measure(model)
        return EpochEnd(measures, best is None or _rank(measures) > _rank(best))

    def stop(state: State) -> bool:
        return state.best is not None and state.epoch - state.best["epoch"] >= settings.patience

    def batches(epoch: int, start: int) -> BalancedBatches:
        return _batches(train, settings.batch_size, config, accelerator, epoch, start, (REAL, FAKE))

    views: Any = Views(train.dataset, config.augmentation.view, network.encoder.crop)
    if network.frozen:
        views = KeptEmbeddings(network.to(device), views, config, device)
    parts: dict[str, Any] = {"loss": loss, "after_epoch": after_epoch, "stop": stop, "start": measure if settings.start_as_probe else None}
    stage = _stage("stage2", network, settings, config, views=views, batches=batches, **parts)
    state, weights = run_stage(stage, accelerator, output, resume=resume, on_progress=on_progress)
    restore_tensors(network, weights)
    return state.history, state.best or {}


def _groups(model: nn.Module, encoder_rate: float) -> list[dict[str, Any]]:
    """What learns of a network of either stage: its encoder with its own share of the rate, and the rest."""
    learning = [(name.startswith("encoder."), value) for name, value in model.named_parameters() if value.requires_grad]
    groups = [(encoder_rate, [value for inside, value in learning if inside]), (1.0, [value for inside, value in learning if not inside])]
    return [{"params": values, "share": share} for share, values in groups if values]


def make_optimizer(parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]], settings: StageConfig) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW with the same setting as its first beta."""
    if settings.optimizer == "adamw":
        betas = (settings.momentum, 0.999)
        return torch.optim.AdamW(parameters, settings.lr, betas, weight_decay=settings.weight_decay)
    return torch.optim.SGD(parameters, settings.lr, settings.momentum, weight_decay=settings.weight_decay)


class KeptEmbeddings:
    """A frozen encoder's embeddings of a few views of each training picture, made once, in place of the views themselves."""

    def __init__(self, network: DetectionNetwork, views: Views, config: NTFConfig, device: torch.device):
        self.labels = torch.zeros(len(views), dtype=torch.int64)
        kept = []
        network.eval()
        for row in range(len(views)):
            seeds = (np.random.default_rng([config.seed, row, view]).integers(2**63) for view in range(VIEWS_KEPT))
            drawn = views.batch([Draw(row, int(seed)) for seed in seeds])
            self.labels[row] = drawn.labels[0]
            pixels = to_tensor(drawn.pixels[:, 0], network.encoder.mean, network.encoder.std, device)
            with torch.no_grad():
                kept.append(network.embed(pixels).float().cpu())
        self.kept = torch.stack(kept)

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """As `Views`, with embeddings float `[N, 1, dim]` for pixels."""
        rows = torch.tensor([draw.row for draw in draws])
        views = torch.tensor([draw.seed % VIEWS_KEPT for draw in draws])
        return Batch(self.kept[rows, views].unsqueeze(1), self.labels[rows], rows)


def _stage(
    name: str, network: nn.Module, settings: StageConfig, config: NTFConfig, *, batches: Callable[[int, int], BalancedBatches], **parts: Any
) -> Stage:
    """A stage of NTF for the loop; `parts` are those in which the two stages differ."""
    steps = -(-batches(0, 0).batches // config.gradient_accumulation) * settings.epochs
    return Stage(
        name,
        network,
        optimizer=lambda model: make_optimizer(_groups(model, getattr(settings, "encoder_rate", 1.0)), settings),
        schedule=WarmupCosine(settings.lr, steps, settings.warmup, settings.final_lr),
        epochs=settings.epochs,
        batches=batches,
        gathered=True,
        accumulation=config.gradient_accumulation,
        max_norm=settings.max_gradient,
        threads=config.threads,
        checkpoint_every=config.checkpoint_every,
        advice=f"Lower `{name}.lr` or raise the batch size",
        **parts,
    )


def _batches(
    train: DetectionData, batch_size: int, config: NTFConfig, accelerator: Accelerator, epoch: int, start: int, labels: tuple[int, ...]
) -> BalancedBatches:
    world = accelerator.num_processes
    pairs = config.pairs and len(labels) > 1
    unit = 2 * world if pairs else world
    available = int(np.isin(train.labels, labels).sum())
    batch_size = max(min(batch_size, available) // unit, 1) * unit  # a picture twice in one batch teaches nothing
    return BalancedBatches(
        train, batch_size, config.seed, epoch, labels, rank=accelerator.process_index, world_size=world, start=start, pairs=pairs
    )


def _gather_views(accelerator: Accelerator, views: torch.Tensor) -> torch.Tensor:
    """This process's `[2n, d]`, first views then second ones, with those of all processes: `[2N, d]` in the same order."""
    first, second = views.chunk(2)
    return torch.cat([gather_rows(accelerator, first), gather_rows(accelerator, second)])


def _batch_trace(trace: Trace, kind: str, real_rows: torch.Tensor) -> torch.Tensor:
    """z_hom for one batch: `[d]`, or `[n, d]` for "images"."""
    if kind in ("prototype", "memory"):
        return trace.prototype
    features = trace.features[real_rows]
    return features if kind == "images" else features.mean(0)


def _patch(pixels: torch.Tensor, size: int, seed: int, step: int) -> torch.Tensor:
    """The same random `size` px window of every view of a batch."""
    top, left = np.random.default_rng([seed, step]).integers(0, [max(side - size, 0) + 1 for side in pixels.shape[-2:]])
    return pixels[..., top : top + size, left : left + size]


def _validate(network: DetectionNetwork, data: DetectionData, config: NTFConfig, accelerator: Accelerator) -> dict[str, float]:
    """Mean AP over the subsets and cross-entropy on the validation split, its pictures shared among the processes."""
    rows = np.arange(accelerator.process_index, len(data), accelerator.num_processes)
    own = predict_data(network, data.take(rows), config, accelerator.device).probability if len(rows) else np.empty(0)
    pairs = gather_object(list(zip(rows.tolist(), own.tolist(), strict=True)))
    scores = np.empty(len(data))
    for row, score in pairs:
        scores[row] = score
    precisions = [average_precision(data.labels[members], scores[members]) for members in map(data.rows_of, data.fake_subsets)]
    right = np.where(data.labels == FAKE, scores, 1 - scores)
    return {"validation_ap": float(np.mean(precisions)), "validation_loss": float(-np.log(np.maximum(right, TINY)).mean())}


def _rank(entry: dict[str, Any]) -> tuple[float, float]:
    """The better epoch has the higher AP, and among equals (all 1.0 on an easy split) the lower loss."""
    return round(entry["validation_ap"], 6), -entry["validation_loss"]
