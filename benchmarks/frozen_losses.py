"""What NTF's losses add to a probe of frozen features, without a look at the test split.

    python benchmarks/frozen_losses.py FOLDER
    python benchmarks/frozen_losses.py FOLDER --folds 3 --only whole

The cross-validation, the encoder and the features are those of `frozen_features.py`: after 11 blocks, of a picture and its mirror image.
Every row starts as the probe. On the features of `whole` and `enlarged` pictures the classifier learns, and a linear layer beside the
features that begins at zero; on `places` the means and standard deviations over places are weighted by attention, whose queries begin at
zero, where all places weigh the same. The epoch that validation likes best is kept, the start included. A gain is that over the probe in
percentage points, with its standard error over subsets and folds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: a neighbour of that name would hide the package `generators`
    sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from sklearn.metrics import average_precision_score  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.frozen_features import FOLDS, Chooser, Pool, each_fold, fitted, percent, place_pools_of, pools_of  # noqa: E402
from flows.data import splits_of  # noqa: E402
from ntf_model.data.data import FAKE, REAL, DetectionSplits  # noqa: E402
from ntf_model.encoders.backbones import LITE0_TRACES  # noqa: E402
from ntf_model.encoders.probing import LinearProbe  # noqa: E402
from ntf_model.judging.tables import Table  # noqa: E402
from ntf_model.ntf.losses import detection_loss, trace_loss  # noqa: E402
from ntf_model.ntf.memory import prototypes  # noqa: E402
from ntf_model.ntf.network import DetectionNetwork, projection  # noqa: E402
from ntf_model.training.schedules import WarmupCosine  # noqa: E402

DIM, HALF, RATE = 128, 16, 0.001  # of NTF's features; fakes, and reals, of a batch; of learning
ATTENTION_HEADS = 4
TINY = 1e-6


@dataclass(frozen=True)
class Losses:
    """A stage 2 on frozen features. With `layer` what lies between the features and the heads learns too."""

    title: str
    contrastive: Any = "none"
    layer: bool = True
    gamma: float = 2.0
    memory: int = 8
    epochs: int = 15


NTF = Losses("NTF, real anchors, memory of 8, gamma 2", "reals")
GAMMA_20 = Losses("the same, gamma 20", "reals", gamma=20.0)
LEARNT = Losses("cross-entropy, with the layer")
HEADS: dict[str, tuple[Losses, ...]] = {
    "whole": (
        Losses("cross-entropy, the classifier alone", layer=False),
        LEARNT,
        NTF,
        Losses("the same, gamma 0.5", "reals", gamma=0.5),
        GAMMA_20,
        Losses("the same, gamma 2, memory of 16, 40 epochs", "reals", memory=16, epochs=40),
        Losses("NTF, all anchors, memory of 8, gamma 2", "log"),
    ),
    "places": (LEARNT, NTF, GAMMA_20),
    "enlarged": (LEARNT, NTF, GAMMA_20),
}
TITLES = {"whole": "the whole", "places": "the whole, attention over places", "enlarged": "the whole, enlarged twice"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folders with two subsets or more")
    parser.add_argument("--folds", type=int, default=FOLDS, help=f"how many of the {FOLDS} folds are measured")
    parser.add_argument("--only", default=",".join(HEADS), help=f"of {', '.join(HEADS)}, by commas")
    parser.add_argument("--cache", type=Path, default=Path("runs/frozen-features"))
    options = parser.parse_args()
    splits = splits_of(options.data, Path("store"))
    torch.set_num_threads(1)
    rows = []
    for key in options.only.split(","):
        pools = features_for(splits, key, options.cache)
        for losses in HEADS[key]:
            rows.append([TITLES[key], losses.title, *gains(*each_fold(pools, head_of(losses), options.folds))])
    print(Table("NTF's losses on the frozen encoder", ["features of", "what learns", *GAINS], rows).render("markdown"))


GAINS = ["start, trained on", "start, unseen"]
GAINS += [f"{what}, {where}" for what in ("gain", "gain of the average") for where in ("trained on", "unseen")]


def features_for(splits: DetectionSplits, key: str, cache: Path) -> dict[str, Pool]:
    return place_pools_of(splits, "whole", cache) if key == "places" else pools_of(splits, key, (LITE0_TRACES,), cache)


def gains(seen: np.ndarray, unseen: np.ndarray) -> list[str]:
    """Cells for scores `[subsets, folds, 1 + n]`: the AP of the first, and what each other one gains over it."""
    cells = [percent(of[..., 0].mean()) for of in (seen, unseen)]
    for place in range(1, seen.shape[2]):
        for of in (seen, unseen):
            paired = (of[..., place] - of[..., 0]).ravel()
            cells.append(f"{100 * paired.mean():+.1f} ± {100 * paired.std(ddof=1) / len(paired) ** 0.5:.1f}")
    return cells


class Residual(nn.Module):
    """Features, and a linear layer beside them that begins at zero."""

    def __init__(self, width: int):
        super().__init__()
        self.layer = nn.Linear(width, width)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.layer(features)


class AttentionMoments(nn.Module):
    """Mean and standard deviation over places `[N, T, C]` to `[N, 2 C]`. Each head weighs the places for its share of the channels, by the
    softmax of its query's product with the normalised features; queries begin at zero."""

    def __init__(self, channels: int):
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(ATTENTION_HEADS, channels))

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        keys = F.layer_norm(places, places.shape[-1:])
        weights = torch.softmax(self.queries @ keys.transpose(1, 2), -1)  # [N, heads, T]
        shares = places.unflatten(2, (ATTENTION_HEADS, -1))  # [N, T, heads, C / heads]
        mean = torch.einsum("nht,nthc->nhc", weights, shares)
        variance = torch.einsum("nht,nthc->nhc", weights, (shares - mean.unsqueeze(1)) ** 2)
        return torch.cat([mean.flatten(1), variance.clamp_min(TINY**2).sqrt().flatten(1)], 1)


class Head(nn.Module):
    """NTF's heads on frozen features `[N, C]`, or on places `[N, T, C]` under attention; `mean` and `std` `[C]` scale what is read."""

    def __init__(self, mean: np.ndarray, std: np.ndarray, below: nn.Module, beside: nn.Module):
        super().__init__()
        self.below, self.beside = below, beside
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer("std", torch.from_numpy(std).float())
        frozen = nn.Identity()
        frozen.dim = len(mean)
        self.heads = DetectionNetwork(frozen, DIM)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """To standardised features `[N, d]` and logits `[N]`."""
        z, logits = self.heads.heads(self.beside((self.below(features) - self.mean) / self.std))
        return self.heads.standardise(z), logits


def pooled(features: np.ndarray) -> np.ndarray:
    """Features `[N, views, C]`; those of places `[N, views, T, C]` as `[N, views, 2 C]`."""
    return features if features.ndim == 3 else np.concatenate([features.mean(2), features.std(2)], 2)


def head_of(losses: Losses) -> Chooser:
    """The scores of the probe, of what starts there and learns by `losses`, and of their average."""

    def choose(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, truth: np.ndarray, seed: int) -> list[Any]:
        plain, views = pooled(features), features.shape[1]
        probe = fitted(plain, labels, pooled(held_out), truth, views, views)
        mean, std = plain.mean((0, 1)), plain.std((0, 1)) + TINY
        of_reals = torch.from_numpy((plain[labels == REAL] - mean) / std).float()
        trace = None if losses.contrastive == "none" else memory_of(of_reals, losses.memory, seed)
        torch.manual_seed(seed)
        is_map = features.ndim == 4
        below = AttentionMoments(features.shape[3]) if is_map else nn.Identity()
        head = Head(mean, std, below, Residual(len(mean)) if losses.layer and not is_map else nn.Identity())
        LinearProbe(probe.weight * std, float(probe.bias + probe.weight @ mean), *probe[2:]).copy_to(head.heads.classifier)
        learn(head, as_tensor(features), labels, trace, losses, seed, lambda: rank(score_of(head, as_tensor(held_out)), truth))

        def score_of_probe(pictures: np.ndarray) -> np.ndarray:
            return pooled(pictures).mean(1) @ probe.weight + probe.bias

        def score_of_head(pictures: np.ndarray) -> np.ndarray:
            return score_of(head, as_tensor(pictures))

        def average(pictures: np.ndarray) -> np.ndarray:
            return sum(scores / (scores.std() + 1e-9) for scores in (score_of_probe(pictures), score_of_head(pictures)))

        return [score_of_probe, score_of_head, average]

    return choose


def as_tensor(features: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(features).float()


def memory_of(reals: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Stage 1 for one epoch on features of reals `[N, views, C]`, and the centres of what they share."""
    torch.manual_seed(seed)
    heads = nn.ModuleList(projection(reals.shape[2], DIM) for _ in range(2))
    optimizer, rng = torch.optim.AdamW(heads.parameters(), RATE, weight_decay=0.05), np.random.default_rng(seed)
    for rows in np.array_split(rng.permutation(len(reals)), max(1, len(reals) // 64)):
        views = torch.cat([reals[rows, 0], reals[rows, -1]])
        optimizer.zero_grad()
        trace_loss(heads[0](views), heads[1](views), torch.from_numpy(rows).repeat(2)).total.backward()
        optimizer.step()
    with torch.no_grad():
        return prototypes(F.normalize(heads[0](reals[:, 0]), dim=1), count, seed)


def learn(
    head: Head,
    inputs: torch.Tensor,
    labels: np.ndarray,
    trace: torch.Tensor | None,
    losses: Losses,
    seed: int,
    measure: Callable[[], tuple[float, float]],
) -> None:
    """Stage 2, in place; the epoch that validation likes best is kept, the start included."""
    rng, optimizer = np.random.default_rng(seed), torch.optim.AdamW(head.parameters(), RATE, weight_decay=0.05)
    best, kept = measure(), {name: value.clone() for name, value in head.state_dict().items()}
    schedule, step = WarmupCosine(RATE, losses.epochs * len(list(batches(labels, rng))), 0.0, 0.001), 0
    for epoch in range(losses.epochs):
        head.train()
        for rows in batches(labels, rng):
            optimizer.param_groups[0]["lr"] = schedule.rate(epoch, step)
            z, logits = head(inputs[rows, rng.integers(inputs.shape[1], size=len(rows))])
            memory = z.detach()[:1] if trace is None else trace
            is_fake = torch.from_numpy(labels[rows] == FAKE)
            loss = detection_loss(
                z, logits, is_fake, memory, gamma=losses.gamma, contrastive=losses.contrastive, nearest=True, temperature=0.5
            )
            optimizer.zero_grad()
            (loss.total + 0.0 * z.sum()).backward()
            optimizer.step()
            step += 1
        now = measure()
        if now > best:
            best, kept = now, {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(kept)


def batches(labels: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows of an epoch's batches: as many reals as fakes."""
    most = max(np.bincount(labels))
    rows = [np.resize(rng.permutation(np.flatnonzero(labels == label)), most) for label in (REAL, FAKE)]
    for start in range(0, most - HALF + 1, HALF):
        yield np.concatenate([of[start : start + HALF] for of in rows])


@torch.no_grad()
def score_of(head: Head, inputs: torch.Tensor) -> np.ndarray:
    """Logits of pictures `[N, views, C]`, the mean over their views."""
    head.eval()
    return head(inputs.flatten(0, 1))[1].reshape(inputs.shape[:2]).mean(1).double().numpy()


def rank(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The higher AP, and among equals the lower cross-entropy."""
    return round(float(average_precision_score(truth, scores)), 6), -float(np.logaddexp(0, np.where(truth == FAKE, -scores, scores)).mean())


if __name__ == "__main__":
    main()
