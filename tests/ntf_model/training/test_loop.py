"""The training loop by itself, on a network of a few weights: steps, rates, the best epoch, and going on after a stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from foreign.progress import silent
from ntf_model.baselines._sbi_sam import SAM
from ntf_model.data.data import FAKE, REAL, DetectionSplits
from ntf_model.data.sampling import BalancedBatches, Draw
from ntf_model.errors import InputError
from ntf_model.training.loop import EpochEnd, Stage, run_stage
from ntf_model.training.processes import make_accelerator, own_random_numbers
from ntf_model.training.schedules import ByEpoch, Plateau, WarmupCosine
from ntf_model.training.state import State, learnt_tensors, restore_tensors


class Vectors:
    """Four random numbers for each drawn picture, and whether they are positive on the whole."""

    def batch(self, draws: Sequence[Draw]) -> tuple[torch.Tensor, torch.Tensor]:
        values = np.stack([np.random.default_rng(draw.seed).normal(size=4) for draw in draws])
        return torch.from_numpy(values).float(), torch.from_numpy(values.sum(1) > 0).float()


def small_network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))


def adam(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([value for value in network.parameters() if value.requires_grad], lr=0.01)


def sam(network: nn.Module) -> SAM:
    return SAM(network.parameters(), lr=0.01)


def by_sam(optimizer: SAM, backward: Any) -> None:
    optimizer.step(backward)


def stage_of(splits: DetectionSplits, network: nn.Module, **changes: Any) -> Stage:
    def loss(model: nn.Module, batch: Any, number: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return nn.functional.binary_cross_entropy_with_logits(model(batch[0]).flatten(), batch[1]), {}

    def after_epoch(model: nn.Module, epoch: int, best: dict[str, Any] | None) -> EpochEnd:
        return EpochEnd({"validation_accuracy": 0.5, "first": model[0].weight[0, 0].item()}, epoch != 2)

    settings: dict[str, Any] = {
        "optimizer": adam,
        "schedule": WarmupCosine(0.01, 30, 0.2, 0.1),
        "epochs": 3,
        "views": Vectors(),
        "batches": lambda epoch, start: BalancedBatches(splits.train, 12, 0, epoch, start=start),
        "loss": loss,
        "after_epoch": after_epoch,
        "threads": 1,
        "checkpoint_every": 1,
    }
    return Stage("small", network, **{**settings, **changes})


def trained(splits: DetectionSplits, output: Path | None = None, stop_at: int = 0, resume: bool = False, **changes: Any) -> tuple:
    """The final state, the best weights and the network; stopped by KeyboardInterrupt after `stop_at` batches."""
    accelerator = make_accelerator("no", "cpu")
    seen = []

    def stop(done: int, total: int, message: str) -> None:
        seen.append(done)
        if len(seen) == stop_at:
            raise KeyboardInterrupt

    with own_random_numbers(accelerator, 0):
        network = small_network()
        state, best = run_stage(stage_of(splits, network, **changes), accelerator, output, resume=resume, on_progress=stop)
    return state, best, network


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(value.equal(second[name]) for name, value in first.items())


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulation": 2, "max_norm": 1.0},
    "started": {"start": lambda network: {"first": network[0].weight[0, 0].item()}},
    "sam": {"optimizer": sam, "step": by_sam, "schedule": ByEpoch(lambda epoch: 0.1 / (1 + epoch)), "seed": lambda epoch: epoch},
}


@pytest.mark.parametrize("stop_at", [3, 6, 11])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_resumed_training_ends_as_one_that_was_not_stopped(
    options: dict[str, Any], stop_at: int, splits: DetectionSplits, tmp_path: Path
) -> None:
    """With dropout, momentum and BatchNorm, in the middle of an epoch and at its end."""
    whole, best, network = trained(splits, **options)
    with pytest.raises(KeyboardInterrupt):
        trained(splits, tmp_path, stop_at, **options)
    assert (tmp_path / "checkpoint" / "small" / "state.json").is_file()
    resumed, resumed_best, resumed_network = trained(splits, tmp_path, resume=True, **options)
    assert resumed.history == whole.history
    assert len(resumed.seconds) == whole.epoch == 3
    assert same(resumed_best, best)
    assert same(resumed_network.state_dict(), network.state_dict())


def test_a_training_on_pairs_goes_on_where_it_was(splits: DetectionSplits, tmp_path: Path) -> None:
    train = splits.train
    assert train.ids is not None
    reals = cycle(train.ids[train.labels == REAL].tolist())
    made_from = replace(train, originals=np.array([next(reals) if label == FAKE else "" for label in train.labels]))

    def batches(epoch: int, start: int) -> BalancedBatches:
        return BalancedBatches(made_from, 12, 0, epoch, start=start, pairs=True)

    whole, _, network = trained(splits, batches=batches)
    with pytest.raises(KeyboardInterrupt):
        trained(splits, tmp_path, 4, batches=batches)
    resumed, _, resumed_network = trained(splits, tmp_path, resume=True, batches=batches)
    assert resumed.history == whole.history != trained(splits)[0].history
    assert same(resumed_network.state_dict(), network.state_dict())


def test_a_start_that_counts_is_kept_where_no_epoch_is_better(splits: DetectionSplits) -> None:
    """It is measured before the first step, and `after_epoch` is given it as the best one so far."""
    met = []

    def measure(network: nn.Module) -> dict[str, Any]:
        return {"first": network[0].weight[0, 0].item()}

    def worse(network: nn.Module, epoch: int, best: dict[str, Any] | None) -> EpochEnd:
        met.append(best)
        return EpochEnd({}, False)

    state, best, network = trained(splits, start=measure, after_epoch=worse)
    assert state.best == {"epoch": 0, "first": best["0.weight"][0, 0].item()}
    assert met == [state.best] * 3
    assert not same(best, network.state_dict())
    with own_random_numbers(make_accelerator("no", "cpu"), 0):
        assert same(best, small_network().state_dict())
    assert trained(splits, after_epoch=worse)[0].best is None


def test_the_best_epoch_is_kept_and_not_the_last(splits: DetectionSplits) -> None:
    state, best, network = trained(splits)
    assert state.best == state.history[1]
    assert float(best["0.weight"][0, 0]) == state.history[1]["first"]
    assert not same(best, network.state_dict())


def test_the_log_has_the_mean_loss_over_processes(splits: DetectionSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were a second process, whose loss is three times this one's; a resumed run goes on from the mean."""
    alone, _, _ = trained(splits)
    monkeypatch.setattr(Accelerator, "reduce", lambda _, value, reduction: 2 * value if reduction == "mean" else 4 * value)
    shared, _, _ = trained(splits, tmp_path)
    assert [entry["loss"] for entry in shared.history] == pytest.approx([2 * entry["loss"] for entry in alone.history])
    with pytest.raises(KeyboardInterrupt):
        trained(splits, tmp_path / "stopped", 2)
    sums = json.loads((tmp_path / "stopped" / "checkpoint" / "small" / "state.json").read_text())["state"]["sums"]
    assert 0 < sums["loss"] < 2 * alone.history[0]["loss"] * BalancedBatches(splits.train, 12, 0, 0).batches


def test_a_plateau_ends_a_training_and_its_resumption_alike(splits: DetectionSplits, tmp_path: Path) -> None:
    options = {"epochs": 50, "checkpoint_every": 1000}
    state, _, _ = trained(splits, schedule=Plateau(1e-4, patience=1, lowest=1e-5), **options)
    assert 2 < state.epoch < 8
    with pytest.raises(KeyboardInterrupt):
        trained(splits, tmp_path, 2 * BalancedBatches(splits.train, 12, 0, 0).batches + 1, schedule=Plateau(1e-4, 1, 1e-5), **options)
    resumed, _, _ = trained(splits, tmp_path, resume=True, schedule=Plateau(1e-4, patience=1, lowest=1e-5), **options)
    assert resumed.history == state.history


def test_no_epoch_is_no_training(splits: DetectionSplits) -> None:
    assert trained(splits, epochs=0)[:2] == (State(stopped=True), {})
    assert trained(splits, schedule=ByEpoch(lambda epoch: None))[0].history == []


def test_what_is_frozen_is_neither_saved_nor_changed() -> None:
    network = small_network()
    network[0].requires_grad_(False)
    learnt = learnt_tensors(network)
    assert "0.weight" not in learnt
    assert "1.running_mean" in learnt
    with pytest.raises(RuntimeError, match=r"no tensor 3\.bias"):
        restore_tensors(network, {name: value for name, value in learnt.items() if name != "3.bias"})


def test_a_checkpoint_of_another_network_is_refused(splits: DetectionSplits, tmp_path: Path) -> None:
    trained(splits, tmp_path)
    other = nn.Sequential(nn.Linear(4, 1))
    with pytest.raises(InputError, match="small cannot be used"):
        run_stage(stage_of(splits, other), make_accelerator("no", "cpu"), tmp_path, resume=True, on_progress=silent)
