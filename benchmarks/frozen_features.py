"""What a frozen EfficientNet-Lite0 knows of generators, without a look at the test split: which layer, crop and views a probe should read.

    python benchmarks/frozen_features.py FOLDER
    python benchmarks/frozen_features.py FOLDER --tables layers,crops

By cross-validation on training and validation pictures: a detector is trained on one subset, three fifths of its pictures, chosen on a
fifth, and measured on the last fifth ("trained on") and on all pictures of the other subsets ("unseen"). Every picture goes through the
encoder once for each view; features stay in `--cache` for the next call. The pictures are squares of one size, or the middle of them.
`frozen_losses.py` adds NTF's losses to these features, `fine_tuning.py` lets the encoder learn too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: a neighbour of that name would hide the package `generators`
    sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.metrics import average_precision_score  # noqa: E402

from flows.data import splits_of  # noqa: E402
from ntf_model.data.data import FAKE, REAL, DetectionSplits  # noqa: E402
from ntf_model.data.images import corner_crops  # noqa: E402
from ntf_model.encoders.backbones import LITE0, LITE0_TRACES, Lite0Encoder  # noqa: E402
from ntf_model.encoders.build import EncoderSettings, encoder_of  # noqa: E402
from ntf_model.encoders.probing import LinearProbe, fit_probe  # noqa: E402
from ntf_model.judging.tables import Table  # noqa: E402
from ntf_model.ntf.augment import to_tensor  # noqa: E402

FOLDS = 5
INNER = (3, 8, LITE0_TRACES)
WHOLE_NETWORK = ()  # of blocks: the mean of the last map, which the usual probe reads
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
    "crop-80": Shown("a crop of 80 px", 80),
    "crop-64": Shown("a crop of 64 px", 64, crops=5),
    "crop-48": Shown("a crop of 48 px", 48),
    "enlarged": Shown("the whole, enlarged twice", 0, upscale=2),
}


class Reading(NamedTuple):
    """What a probe reads: which pictures, after which blocks, learnt from how many views, averaged over how many in testing."""

    shown: str
    blocks: tuple[int, ...] = (LITE0_TRACES,)
    learnt: int = 1
    averaged: int = 1


TABLES: dict[str, list[Reading]] = {
    "layers": [Reading("whole", blocks) for blocks in (WHOLE_NETWORK, (3,), (8,), (11,), (15,), (16,), INNER)],
    "crops": [Reading(shown) for shown in SHOWN],
    "views": [
        *(Reading("whole", (LITE0_TRACES,), views, views) for views in (1, 2)),
        *(Reading("crop-64", (LITE0_TRACES,), learnt, averaged) for learnt, averaged in ((1, 1), (2, 2), (1, 10))),
        *(Reading("enlarged", (LITE0_TRACES,), views, views) for views in (1, 2)),
    ],
}


class Pool(NamedTuple):
    """The pictures of one subset: features float64 `[N, views, C]`, labels int `[N]`."""

    features: np.ndarray
    labels: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folders with two subsets or more")
    parser.add_argument("--tables", default=",".join(TABLES), help="of the three, by commas")
    parser.add_argument("--folds", type=int, default=FOLDS, help=f"how many of the {FOLDS} folds are measured")
    parser.add_argument("--cache", type=Path, default=Path("runs/frozen-features"))
    options = parser.parse_args()
    splits = splits_of(options.data, Path("store"))
    torch.set_num_threads(1)
    for name in options.tables.split(","):
        print(table_of(splits, name, options.folds, options.cache).render("markdown"), flush=True)


def table_of(splits: DetectionSplits, name: str, folds: int, cache: Path) -> Table:
    """One row for each of the readings, with the AP for each subset that is trained on, and the means over them."""
    rows = []
    for shown, blocks, learnt, averaged in TABLES[name]:
        pools = pools_of(splits, shown, blocks, cache)
        seen, unseen = measured(pools, probe_of(learnt, averaged), folds)
        read = ", ".join(map(str, blocks)) or "the whole network"
        by_subset = [percent(value) for pair in zip(seen[:, 0], unseen[:, 0], strict=True) for value in pair]
        means = [percent(seen[:, 0].mean()), percent(unseen[:, 0].mean())]
        rows.append([SHOWN[shown].title, read, str(learnt), str(averaged), *by_subset, *means])
    columns = [f"{subset}: {where}" for subset in splits.train.fake_subsets for where in ("trained on", "unseen")]
    header = ["pictures", "after blocks", "views learnt from", "averaged over", *columns, "mean, trained on", "mean, unseen"]
    return Table(f"Probes of the frozen encoder: {name}", header, rows)


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def measured(pools: Mapping[str, Pool], choose: Chooser, folds: int) -> tuple[np.ndarray, np.ndarray]:
    """The AP of each score that `choose` gives, on what was trained on and unseen: `[subsets, scores]` each, means over folds."""
    seen, unseen = each_fold(pools, choose, folds)
    return seen.mean(1), unseen.mean(1)


def each_fold(pools: Mapping[str, Pool], choose: Chooser, folds: int) -> tuple[np.ndarray, np.ndarray]:
    """What `measured` has, of every fold: `[subsets, folds, scores]` each."""
    seen, unseen = [], []
    for name, pool in pools.items():
        for part, (train, held_out, test) in enumerate(parts_of(pool.labels, folds)):
            features, labels = pool
            scores = choose(features[train], labels[train], features[held_out], labels[held_out], part)
            seen.append([average_precision_score(labels[test], score(features[test])) for score in scores])
            others = [other for key, other in pools.items() if key != name]
            unseen.append([np.mean([average_precision_score(of.labels, score(of.features)) for of in others]) for score in scores])
    shape = (len(pools), folds, -1)
    return np.reshape(seen, shape), np.reshape(unseen, shape)


def parts_of(labels: np.ndarray, folds: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each fold which pictures are trained on, chosen on and measured: bool `[N]` each."""
    fold = folds_of(labels)
    tests, held_out = [fold == part for part in range(folds)], [fold == (part + 1) % FOLDS for part in range(folds)]
    return [(~(test | held), held, test) for test, held in zip(tests, held_out, strict=True)]


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


def pools_of(splits: DetectionSplits, key: str, blocks: Sequence[int], cache: Path) -> dict[str, Pool]:
    """The pictures of training and validation, by subset: features after `blocks`, or of the whole network where there are none."""
    widths = [2 * block._bn2.num_features for block in encoder().backbone._blocks]
    ends = np.cumsum([0, *widths])
    chosen = [np.arange(ends[block - 1], ends[block]) for block in blocks]
    columns = np.concatenate(chosen) if chosen else slice(ends[-1], None)
    return _pooled(splits, [features_of(splits, name, key, cache)[:, :, columns] for name in ("train", "validation")])


def place_pools_of(splits: DetectionSplits, key: str, cache: Path) -> dict[str, Pool]:
    """As `pools_of`, with the map after 11 blocks, place by place: features `[N, views, places, C]`."""
    return _pooled(splits, [features_of(splits, name, key, cache, "places") for name in ("train", "validation")])


def _pooled(splits: DetectionSplits, features: Sequence[np.ndarray]) -> dict[str, Pool]:
    pools = {}
    for subset in splits.train.fake_subsets:
        rows = [split.rows_of(subset) for split in splits[:2]]
        joined = np.concatenate([part[own] for part, own in zip(features, rows, strict=True)]).astype(np.float64)
        pools[subset] = Pool(joined, np.concatenate([split.labels[own] for split, own in zip(splits[:2], rows, strict=True)]))
    return pools


def encoder() -> Lite0Encoder:
    built = encoder_of(EncoderSettings(encoder=LITE0, adaptation="frozen")).eval()
    assert isinstance(built, Lite0Encoder)
    return built


def features_of(splits: DetectionSplits, name: str, key: str, cache: Path, kind: str = "all") -> np.ndarray:
    """What one of `READERS` gives for each picture: float32 `[N, views, ...]`, a crop and then its mirror image."""
    data, shown, network = getattr(splits, name), SHOWN[key], encoder()
    file = cache / f"{data.digest[:16]}-{key}-{kind}.npy"
    if file.is_file():
        return np.load(file)
    network.upscale, parts = shown.upscale, []
    for row in range(len(data)):
        image = data.dataset[row].image
        crops = corner_crops(image, shown.size or min(image.shape[:2]), shown.crops)
        views = np.stack([view for crop in crops for view in (crop, crop[:, ::-1])])
        pixels = to_tensor(torch.from_numpy(views.transpose(0, 3, 1, 2).copy()), network.mean, network.std, "cpu")
        parts.append(READERS[kind](network, network.enlarge(pixels).contiguous(memory_format=torch.channels_last)))
    cache.mkdir(parents=True, exist_ok=True)
    np.save(file, np.stack(parts))
    return np.stack(parts)


@torch.inference_mode()
def after_blocks(network: Lite0Encoder, pixels: torch.Tensor) -> np.ndarray:
    """Means and standard deviations over places after each block, and then the means of the last map: `[views, C]`."""
    backbone, out = network.backbone, []
    hidden = backbone.activation(backbone._bn0(backbone._conv_stem(pixels)))
    for block in backbone._blocks:
        hidden = block(hidden)
        places = hidden.flatten(2)
        out += [places.mean(2), places.std(2, unbiased=False)]
    last = backbone.activation(backbone._bn1(backbone._conv_head(hidden)))
    return torch.cat([*out, last.mean((2, 3))], 1).numpy()


@torch.inference_mode()
def places_after(network: Lite0Encoder, pixels: torch.Tensor) -> np.ndarray:
    """The map after 11 blocks: `[views, places, C]`."""
    backbone = network.backbone
    hidden = backbone.activation(backbone._bn0(backbone._conv_stem(pixels)))
    for block in backbone._blocks[:LITE0_TRACES]:
        hidden = block(hidden)
    return hidden.flatten(2).transpose(1, 2).numpy()


READERS = {"all": after_blocks, "places": places_after}


if __name__ == "__main__":
    main()
