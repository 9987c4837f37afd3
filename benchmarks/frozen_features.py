"""What a frozen EfficientNet-Lite0 knows of generators, and what NTF's losses add to a probe of it, without a look at the test split.

    python benchmarks/frozen_features.py FOLDER
    python benchmarks/frozen_features.py FOLDER --folds 3 --only whole

By cross-validation on training and validation pictures: a detector is trained on one subset, three fifths of its pictures, chosen on a
fifth, and measured on the last fifth ("trained on") and on all pictures of the other subsets ("unseen"). Every picture goes through the
encoder once for each view; features stay in `--cache` for the next call. The pictures are squares of one size, or the middle of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: a neighbour of that name would hide the package `generators`
    sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from sklearn.metrics import average_precision_score  # noqa: E402
from torch import nn  # noqa: E402

from flows.data import splits_of  # noqa: E402
from ntf_model.data.data import FAKE, REAL, DetectionSplits  # noqa: E402
from ntf_model.data.images import corner_crops  # noqa: E402
from ntf_model.encoders.backbones import LITE0, LITE0_TRACES, Lite0Encoder  # noqa: E402
from ntf_model.encoders.build import EncoderSettings, encoder_of  # noqa: E402
from ntf_model.encoders.probing import LinearProbe, fit_probe  # noqa: E402
from ntf_model.judging.tables import Table  # noqa: E402
from ntf_model.ntf.augment import to_tensor  # noqa: E402
from ntf_model.ntf.losses import detection_loss, trace_loss  # noqa: E402
from ntf_model.ntf.memory import prototypes  # noqa: E402
from ntf_model.ntf.network import DetectionNetwork, projection  # noqa: E402
from ntf_model.training.schedules import WarmupCosine  # noqa: E402

FOLDS = 5
DIM, HALF, RATE = 128, 16, 0.001  # of NTF's features; fakes, and reals, of a batch; of learning
INNER = (3, 8, LITE0_TRACES)
Chooser = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int], list[Callable[[np.ndarray], np.ndarray]]]


class Shown(NamedTuple):
    """What the encoder is shown of a picture: `crops` squares of `size` px (0: the whole), mirrored too, enlarged `upscale` times."""

    title: str
    size: int
    crops: int = 1
    upscale: int = 1


SHOWN = {
    "whole": Shown("the whole", 0),
    "crop-96": Shown("a crop of 96 px", 96),
    "crop-64": Shown("a crop of 64 px", 64, crops=5),
    "enlarged": Shown("the whole, enlarged twice", 0, upscale=2),
}
# Which blocks are read, which views are learnt from, and which are averaged over.
PROBES: dict[str, list[tuple[tuple[int, ...], int, int]]] = {
    "whole": [((LITE0_TRACES,), 1, 1), ((LITE0_TRACES,), 2, 2), (INNER, 1, 1), (INNER, 2, 2)],
    "crop-96": [((LITE0_TRACES,), 1, 1)],
    "crop-64": [((LITE0_TRACES,), 1, 1), ((LITE0_TRACES,), 2, 2), ((LITE0_TRACES,), 1, 10), (INNER, 1, 1)],
    "enlarged": [((LITE0_TRACES,), 1, 1), ((LITE0_TRACES,), 2, 2)],
}


@dataclass(frozen=True)
class Losses:
    """A stage 2 on frozen features. With `layer` a linear layer beside them learns too."""

    title: str
    contrastive: Any = "none"
    layer: bool = True
    gamma: float = 2.0
    memory: int = 8
    epochs: int = 15


HEADS = (
    Losses("cross-entropy, the classifier alone", layer=False),
    Losses("cross-entropy, with the layer"),
    Losses("NTF, real anchors, memory of 8, gamma 2", "reals"),
    Losses("the same, gamma 0.5", "reals", gamma=0.5),
    Losses("the same, gamma 2, memory of 16, 40 epochs", "reals", memory=16, epochs=40),
    Losses("NTF, all anchors, memory of 8, gamma 2", "log"),
)


class Pool(NamedTuple):
    """The pictures of one subset: features float64 `[N, views, C]`, labels int `[N]`."""

    features: np.ndarray
    labels: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folders with two subsets or more")
    parser.add_argument("--folds", type=int, default=FOLDS, help=f"how many of the {FOLDS} folds are measured")
    parser.add_argument("--only", default=",".join(SHOWN), help="of what is shown of a picture, by commas")
    parser.add_argument("--cache", type=Path, default=Path("runs/frozen-features"))
    options = parser.parse_args()
    splits = splits_of(options.data, Path("store"))
    torch.set_num_threads(1)
    rows = []
    for key in options.only.split(","):
        for blocks, learnt, averaged in PROBES[key]:
            pools = pools_of(splits, key, blocks, options.cache)
            seen, unseen = measured(pools, probe_of(learnt, averaged), options.folds)
            read = ", ".join(map(str, blocks))
            rows.append([SHOWN[key].title, read, str(learnt), str(averaged), percent(seen[0]), percent(unseen[0])])
    header = ["pictures", "after blocks", "views learnt from", "views averaged over", "AP, trained on", "AP, unseen"]
    print(Table("Probes of the frozen encoder", header, rows).render("markdown"), flush=True)
    if "whole" not in options.only.split(","):
        return
    rows = []
    pools = pools_of(splits, "whole", (LITE0_TRACES,), options.cache)
    for losses in HEADS:
        seen, unseen = measured(pools, head_of(losses), options.folds)
        gains = [of[place] - of[0] for place in (1, 2) for of in (seen, unseen)]
        rows.append([losses.title, percent(seen[0]), percent(unseen[0]), *(f"{100 * gain:+.1f}" for gain in gains)])
    header = ["what learns", "probe, trained on", "probe, unseen"]
    header += [f"{what}, {where}" for what in ("gain", "gain of the average") for where in ("trained on", "unseen")]
    print("\n" + Table("NTF's losses on the frozen encoder", header, rows).render("markdown"))


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def measured(pools: Mapping[str, Pool], choose: Chooser, folds: int) -> tuple[np.ndarray, np.ndarray]:
    """The AP of each score that `choose` gives, on what was trained on and unseen: means over subsets and folds."""
    seen, unseen = [], []
    for name, pool in pools.items():
        fold = folds_of(pool.labels)
        for part in range(folds):
            test, held_out = fold == part, fold == (part + 1) % FOLDS
            train = ~(test | held_out)
            features, labels = pool
            scores = choose(features[train], labels[train], features[held_out], labels[held_out], part)
            seen.append([average_precision_score(labels[test], score(features[test])) for score in scores])
            others = [other for key, other in pools.items() if key != name]
            unseen.append([np.mean([average_precision_score(of.labels, score(of.features)) for of in others]) for score in scores])
    return np.mean(seen, axis=0), np.mean(unseen, axis=0)


def folds_of(labels: np.ndarray) -> np.ndarray:
    """A fold for each picture, each class shared out evenly."""
    rng, fold = np.random.default_rng(0), np.empty(len(labels), int)
    for label in (REAL, FAKE):
        rows = rng.permutation(np.flatnonzero(labels == label))
        fold[rows] = np.arange(len(rows)) % FOLDS
    return fold


def fitted(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, truth: np.ndarray, learnt: int, averaged: int) -> LinearProbe:
    views = features[:, :learnt].reshape(-1, features.shape[2])
    return fit_probe(views, np.repeat(labels, learnt), held_out[:, :averaged].mean(1), truth)


def probe_of(learnt: int, averaged: int) -> Chooser:
    def choose(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, truth: np.ndarray, seed: int) -> list[Any]:
        probe = fitted(features, labels, held_out, truth, learnt, averaged)
        return [lambda pictures: pictures[:, :averaged].mean(1) @ probe.weight + probe.bias]

    return choose


class Head(nn.Module):
    """NTF's heads on features, and a linear layer beside these that begins at zero."""

    def __init__(self, width: int, layer: bool):
        super().__init__()
        self.layer = nn.Linear(width, width) if layer else None
        if self.layer is not None:
            nn.init.zeros_(self.layer.weight)
            nn.init.zeros_(self.layer.bias)
        frozen = nn.Identity()
        frozen.dim = width
        self.heads = DetectionNetwork(frozen, DIM)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`[N, C]` to standardised features `[N, d]` and logits `[N]`."""
        z, logits = self.heads.heads(features if self.layer is None else features + self.layer(features))
        return self.heads.standardise(z), logits


def head_of(losses: Losses) -> Chooser:
    """The scores of the probe, of what starts there and learns by `losses`, and of their average."""

    def choose(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, truth: np.ndarray, seed: int) -> list[Any]:
        probe = fitted(features, labels, held_out, truth, features.shape[1], features.shape[1])
        mean, std = features.mean((0, 1)), features.std((0, 1)) + 1e-6

        def scaled(pictures: np.ndarray) -> torch.Tensor:
            return torch.from_numpy((pictures - mean) / std).float()

        inputs = scaled(features)
        trace = None if losses.contrastive == "none" else memory_of(inputs[labels == REAL], losses.memory, seed)
        torch.manual_seed(seed)
        head = Head(features.shape[2], losses.layer)
        LinearProbe(probe.weight * std, float(probe.bias + probe.weight @ mean), *probe[2:]).copy_to(head.heads.classifier)
        learn(head, inputs, labels, trace, losses, seed, lambda: rank(score_of(head, scaled(held_out)), truth))

        def score_of_probe(pictures: np.ndarray) -> np.ndarray:
            return pictures.mean(1) @ probe.weight + probe.bias

        def score_of_head(pictures: np.ndarray) -> np.ndarray:
            return score_of(head, scaled(pictures))

        def average(pictures: np.ndarray) -> np.ndarray:
            return sum(scores / (scores.std() + 1e-9) for scores in (score_of_probe(pictures), score_of_head(pictures)))

        return [score_of_probe, score_of_head, average]

    return choose


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


def pools_of(splits: DetectionSplits, key: str, blocks: Sequence[int], cache: Path) -> dict[str, Pool]:
    """The pictures of training and validation, by subset."""
    parts = [features_of(splits, name, key, cache) for name in ("train", "validation")]
    widths = [2 * block._bn2.num_features for block in encoder().backbone._blocks]
    ends = np.cumsum([0, *widths])
    columns = np.concatenate([np.arange(ends[block - 1], ends[block]) for block in blocks])
    pools = {}
    for subset in splits.train.fake_subsets:
        rows = [getattr(splits, name).rows_of(subset) for name in ("train", "validation")]
        features = np.concatenate([part[own][:, :, columns] for part, own in zip(parts, rows, strict=True)]).astype(np.float64)
        pools[subset] = Pool(features, np.concatenate([splits.train.labels[rows[0]], splits.validation.labels[rows[1]]]))
    return pools


def encoder() -> Lite0Encoder:
    built = encoder_of(EncoderSettings(encoder=LITE0, adaptation="frozen")).eval()
    assert isinstance(built, Lite0Encoder)
    return built


def features_of(splits: DetectionSplits, name: str, key: str, cache: Path) -> np.ndarray:
    """Means and standard deviations over places after each block: float32 `[N, views, C]`, a crop and then its mirror image."""
    data, shown, network = getattr(splits, name), SHOWN[key], encoder()
    file = cache / f"{data.digest[:16]}-{key}.npy"
    if file.is_file():
        return np.load(file)
    parts = []
    for row in range(len(data)):
        image = data.dataset[row].image
        crops = corner_crops(image, shown.size or min(image.shape[:2]), shown.crops)
        views = np.stack([view for crop in crops for view in (crop, crop[:, ::-1])])
        pixels = to_tensor(torch.from_numpy(views.transpose(0, 3, 1, 2).copy()), network.mean, network.std, "cpu")
        network.upscale = shown.upscale
        parts.append(after_blocks(network, network.enlarge(pixels).contiguous(memory_format=torch.channels_last)))
    cache.mkdir(parents=True, exist_ok=True)
    np.save(file, np.stack(parts))
    return np.stack(parts)


@torch.inference_mode()
def after_blocks(network: Lite0Encoder, pixels: torch.Tensor) -> np.ndarray:
    backbone, out = network.backbone, []
    hidden = backbone.activation(backbone._bn0(backbone._conv_stem(pixels)))
    for block in backbone._blocks:
        hidden = block(hidden)
        places = hidden.flatten(2)
        out += [places.mean(2), places.std(2, unbiased=False)]
    return torch.cat(out, 1).numpy()


if __name__ == "__main__":
    main()
