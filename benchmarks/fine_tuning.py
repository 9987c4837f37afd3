"""What NTF gains when the encoder learns too, and weights between its start and its end (WiSE-FT), without a look at the test split.

    python benchmarks/fine_tuning.py FOLDER
    python benchmarks/fine_tuning.py FOLDER --only ntf,cross-entropy --folds 3

The cross-validation is that of `frozen_features.py`. Every row is the preset `default` with some settings changed. It starts as the frozen
probe of the same encoder; of its epochs the one is kept that the held-out fifth likes best, the start left out. "Interpolated" are the
weights between start and end (Wortsman et al. 2022), of whose shares 0, 1/4, 1/2, 3/4 and 1 the held-out fifth chooses one; "the start
counted" may choose 0 or 1 alone, as a training with `start_as_probe` does. A gain is that over the start in percentage points, with its
standard error over subsets and folds. Runs are kept in `--cache`: an interrupted call goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: a neighbour of that name would hide the package `generators`
    sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.metrics import average_precision_score  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.frozen_features import FOLDS, parts_of  # noqa: E402
from benchmarks.frozen_losses import gains, rank  # noqa: E402
from flows.commands.options import settings_of  # noqa: E402
from flows.data import splits_of  # noqa: E402
from foreign.progress import silent  # noqa: E402
from ntf_model.data.data import DetectionData, DetectionSplits, Item  # noqa: E402
from ntf_model.data.loader import keep_decoded  # noqa: E402
from ntf_model.judging.tables import Table  # noqa: E402
from ntf_model.ntf.config import NTFConfig, merge, preset  # noqa: E402
from ntf_model.ntf.inference import predict_data, start_as_probe  # noqa: E402
from ntf_model.ntf.network import DetectionNetwork, TraceNetwork, new_encoder  # noqa: E402
from ntf_model.ntf.stages import find_trace, learn_detection, learn_trace  # noqa: E402
from ntf_model.training.processes import make_accelerator, own_random_numbers  # noqa: E402

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the end in the weights; 0 is the start
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "cross-entropy": ("cross-entropy alone", {"stage2": {"contrastive": "none"}}),
    "ntf": ("NTF, real anchors, memory, gamma 20 (preset `default`)", {}),
    "gamma-5": ("the same, gamma 5", {"stage2": {"gamma": 5.0}}),
    "gamma-2": ("the same, gamma 2", {"stage2": {"gamma": 2.0}}),
    "slow-encoder": ("gamma 5, the encoder at a tenth of the rate", {"stage2": {"gamma": 5.0, "encoder_rate": 0.05}}),
    "lora": ("gamma 5, LoRA of rank 8", {"stage2": {"gamma": 5.0}, "adaptation": "lora", "lora": {"rank": 8, "alpha": 16}}),
    "all-anchors": ("NTF, all anchors, memory, gamma 2", {"stage2": {"contrastive": "log", "gamma": 2.0}}),
}
State = dict[str, torch.Tensor]


class Scores(NamedTuple):
    """P(fake) at each of `SHARES`, float `[5, n]`: of the held-out fifth, of what is measured, and of each other subset."""

    held_out: np.ndarray
    test: np.ndarray
    unseen: list[np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folders with two subsets or more")
    parser.add_argument("--folds", type=int, default=FOLDS, help=f"how many of the {FOLDS} folds are measured")
    parser.add_argument("--only", default=",".join(SETTINGS), help="rows, by commas")
    parser.add_argument("--set", action="append", default=[], help="a setting of all rows as NAME=VALUE; may be repeated")
    parser.add_argument("--cache", type=Path, default=Path("runs/fine-tuning"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    pools = pools_of(splits_of(options.data, Path("store")))
    header = ["detector", "start, trained on", "start, unseen"]
    header += [
        f"{what}, {where}" for what in ("gain of the end", "the start counted", "interpolated") for where in ("trained on", "unseen")
    ]
    rows = []
    for key in options.only.split(","):
        title, changes = SETTINGS[key]
        config = merge(preset("default", **changes), settings_of(options.set))
        seen, unseen, chosen = measured(pools, config, options.folds, options.cache)
        rows.append([title, *gains(seen, unseen), ", ".join(f"{share:g}: {chosen[share]}" for share in SHARES)])
    print(Table("Fine-tuning from the frozen probe", [*header, "shares chosen"], rows).render("markdown"))


def pools_of(splits: DetectionSplits) -> dict[str, DetectionData]:
    """The pictures of training and validation, by subset, in the order of `frozen_features.pools_of`."""
    return {name: keep_decoded(joined(*(split.take(split.rows_of(name)) for split in splits[:2]))) for name in splits.train.fake_subsets}


class Joined:
    """One dataset after another."""

    def __init__(self, *parts: Any):
        self.rows = [(part, row) for part in parts for row in range(len(part))]

    def __getitem__(self, index: int) -> Item:
        part, row = self.rows[index]
        return part[row]

    def __len__(self) -> int:
        return len(self.rows)


def joined(first: DetectionData, second: DetectionData) -> DetectionData:
    digest = hashlib.sha256(f"{first.digest} {second.digest}".encode()).hexdigest()
    labels, subsets = (np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("labels", "subsets"))
    ids = np.array([*first.picture_ids(), *second.picture_ids()])
    dataset = Joined(first.dataset, second.dataset)
    without = {"originals": None, "sha256s": None, "deliveries": None}
    return replace(first, dataset=dataset, labels=labels, subsets=subsets, digest=digest, ids=ids, **without)


def measured(pools: dict[str, DetectionData], config: NTFConfig, folds: int, cache: Path) -> tuple[np.ndarray, np.ndarray, Counter[float]]:
    """The AP `[subsets, folds, 4]` on what was trained on and unseen, of the start, the end, the better of the two on the held-out fifth,
    and the share that it chooses; how often each share was chosen."""
    seen, unseen, chosen = [], [], Counter[float]()
    for name, pool in pools.items():
        others = [other for key, other in pools.items() if key != name]
        for train, held_out, test in parts_of(pool.labels, folds):
            parts = DetectionSplits(*(pool.take(np.flatnonzero(part)) for part in (train, held_out, test)))
            scores = scores_of(parts, others, config, cache)
            ranks = [rank(logit(of), parts.validation.labels) for of in scores.held_out]
            share = max(range(len(SHARES)), key=ranks.__getitem__)
            end = len(SHARES) - 1
            kept = end if ranks[end] > ranks[0] else 0
            chosen[SHARES[share]] += 1
            columns = [0, end, kept, share]
            seen.append([average_precision_score(parts.test.labels, scores.test[column]) for column in columns])
            aps = [
                [average_precision_score(of.labels, found[column]) for column in columns]
                for of, found in zip(others, scores.unseen, strict=True)
            ]
            unseen.append(np.mean(aps, axis=0))
    shape = (len(pools), folds, 4)
    return np.reshape(seen, shape), np.reshape(unseen, shape), chosen


def scores_of(parts: DetectionSplits, others: list[DetectionData], config: NTFConfig, cache: Path) -> Scores:
    """A training and its scores, or those that an earlier call kept."""
    facts = [config.model_dump(mode="json"), parts.digest, [other.digest for other in others]]
    file = cache / f"{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]}.npz"
    if file.is_file():
        with np.load(file) as kept:
            return Scores(kept["held_out"], kept["test"], [kept[f"unseen{place}"] for place in range(len(others))])
    network, start, end = fine_tuned(parts, config)
    found: list[list[np.ndarray]] = []
    for share in SHARES:
        network.load_state_dict(between(start, end, share))
        data = (parts.validation, parts.test, *others)
        found.append([predict_data(network, split, config, torch.device("cpu")).probability for split in data])
    held_out, test, *unseen = (np.stack(columns) for columns in zip(*found, strict=True))
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(file, held_out=held_out, test=test, **{f"unseen{place}": scores for place, scores in enumerate(unseen)})
    return Scores(held_out, test, unseen)


def fine_tuned(splits: DetectionSplits, config: NTFConfig) -> tuple[DetectionNetwork, State, State]:
    """Both stages of `NTFDetector.train`, with the weights of stage 2 before it and after the best of its epochs."""
    accelerator = make_accelerator("no", "cpu")
    options: dict[str, Any] = {"resume": False, "on_progress": silent}
    with own_random_numbers(accelerator, config.seed):
        teacher = TraceNetwork(new_encoder(config, splits.train), config.projection_dim)
        learn_trace(teacher, splits.train, config, accelerator, None, **options)
        trace = find_trace(teacher, splits.train, config, accelerator.device)
        network = DetectionNetwork.from_trace(teacher, frozen=False)
        torch.manual_seed(config.seed + 1)
        for head in (network.aux, network.classifier):
            head.apply(lambda layer: layer.reset_parameters() if isinstance(layer, nn.Linear) else None)
        start_as_probe(network, splits, config, accelerator.device)
        start = copied(network)
        without_start = merge(config, {"stage2": {"start_as_probe": False}})  # no epoch has to be better than the start
        learn_detection(network, trace, splits, without_start, accelerator, None, **options)
    return network, start, copied(network)


def copied(network: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def between(start: State, end: State, share: float) -> State:
    """`start` and so much of the way to `end`; whole numbers (counters) are those of the end."""
    return {name: torch.lerp(value, end[name], share) if value.is_floating_point() else end[name] for name, value in start.items()}


def logit(probability: np.ndarray) -> np.ndarray:
    clipped = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.log(clipped) - np.log1p(-clipped)


if __name__ == "__main__":
    main()
