"""What NTF gains over cross-entropy alone on subsets that it has not seen, and which setting decides it, as Markdown tables.

    python benchmarks/ntf_experiments.py sources faces --store store --train-on StyleGAN2,LDM --seeds 3
    python benchmarks/ntf_experiments.py sources FOLDER --preset default --kinds ntf,cross-entropy,probe --seeds 3
    python benchmarks/ntf_experiments.py sweep faces --store store --train-on StyleGAN2 --seeds 2 --only tau,gamma

`sources` trains NTF, cross-entropy alone, and cross-entropy after stage 1 (or `--kinds`) on each subset by itself, tests them on all the
others, and prints the mean AP over the unseen subsets of the test split. A second table has the means over all that were trained on, with
the gains over the others, and the test reals that are flagged at the threshold that 1 % of all validation reals exceed. `sweep` changes one
setting of the preset at a time and evaluates on the unseen subsets of the **validation** split, so that a preset can be chosen by it and
the test split is left for `sources`. Data are a dataset of the store, built with `ntf build MANIFEST`, or folders. Runs that are in
`--output` already are taken over: an interrupted call goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: a neighbour of that name would hide the package `generators`
    sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402

from flows.commands.options import settings_of  # noqa: E402
from flows.data import splits_of  # noqa: E402
from flows.judging import configuration  # noqa: E402
from ntf_model.data.data import REAL, DetectionSplits  # noqa: E402
from ntf_model.errors import counted  # noqa: E402
from ntf_model.judging.evaluate import Evaluation, score_data  # noqa: E402
from ntf_model.judging.tables import percent  # noqa: E402
from ntf_model.ntf.ablation import BASE, LINE_TO_BEAT, VARIANTS, Result, Variant, ablate, chosen_variants  # noqa: E402
from ntf_model.ntf.sources import across_sources, share_above, sources_table  # noqa: E402
from ntf_model.registry import load_detector  # noqa: E402
from ntf_model.runs import EVALUATION_FILE, METRICS_FILE  # noqa: E402

AFTER_STAGE1 = "cross-entropy-stage1"

# Each is one change to the preset. The first word names the group, for `--only`.
SWEEP: dict[str, dict] = {
    "tau-0.07": {"stage2": {"temperature": 0.07}},
    "tau-0.1": {"stage2": {"temperature": 0.1}},
    "tau-0.2": {"stage2": {"temperature": 0.2}},
    "tau-1.0": {"stage2": {"temperature": 1.0}},
    "gamma-0.5": {"stage2": {"gamma": 0.5}},
    "gamma-1.0": {"stage2": {"gamma": 1.0}},
    "gamma-5.0": {"stage2": {"gamma": 5.0}},
    "gamma-20": {"stage2": {"gamma": 20.0}},
    "paper-loss": {"stage2": {"temperature": 0.07, "gamma": 0.5}},
    "batch-16": {"stage2": {"batch_size": 16}},
    "batch-64": {"stage2": {"batch_size": 64}},
    "soft": VARIANTS["soft"].changes,
    "real-anchors": VARIANTS["real-anchors"].changes,
    "reals-gamma-5": {"stage2": {"contrastive": "reals", "gamma": 5.0}},
    "fresh-student": VARIANTS["fresh-student"].changes,
    "fresh-reals": VARIANTS["fresh-reals"].changes,
    "fresh-batch-64": {"stage2": {"student": "fresh", "batch_size": 64}},
    "trace-images": VARIANTS["trace-images"].changes,
    "trace-prototype": VARIANTS["trace-prototype"].changes,
    "epochs-30": {"stage2": {"epochs": 30, "patience": 15}},
    "stage1-no-hom": {"stage1": {"terms": ("het",)}},
    "stage1-no-het": {"stage1": {"terms": ("hom", "ort")}},
    "stage1-anchors": {"stage1": {"hom_over": "anchors"}},
    "stage1-tau-0.5": {"stage1": {"temperature": 0.5}},
    "stage1-batch-128": {"stage1": {"batch_size": 128}},
    "stage1-epochs-60": {"stage1": {"epochs": 60}},
    "crop-24": {"image_size": 24},
    "blur-jpeg": {"augmentation": {"blur": 0.5, "jpeg": 0.5}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=["sources", "sweep"])
    parser.add_argument("data", help="a dataset of the store, or folders")
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--train-on", default=None, help="subsets, by commas: each is trained on by itself; all if not given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--set", action="append", default=[], help="a setting as NAME=VALUE; may be repeated")
    parser.add_argument(
        "--only", default=None, help="beginnings of variants' names, by commas: of the sweep's, or further ones for `sources`"
    )
    parser.add_argument("--kinds", default=f"{BASE},{LINE_TO_BEAT},{AFTER_STAGE1}", help="what is trained on each subset, by commas")
    parser.add_argument("--output", type=Path, default=Path("runs/experiments"))
    options = parser.parse_args()
    splits = splits_of(options.data, options.store)
    settings = {"preset": options.preset, **settings_of(options.set)}
    names = options.train_on.split(",") if options.train_on else splits.train.fake_subsets
    chosen = tuple(options.only.split(",")) if options.only else ("",)
    kinds, split, evaluated = chosen_variants(splits, options.kinds.split(",")), "test", splits
    if options.experiment == "sources" and options.only:
        kinds |= {key: variant for key, variant in VARIANTS.items() if key.startswith(chosen)}
    if options.experiment == "sweep":
        kinds |= {key: Variant(key, changes) for key, changes in SWEEP.items() if key.startswith(chosen)}
        split, evaluated = "validation", splits._replace(test=splits.validation)
    variants = {f"{key}:{name}": replace(kind, subsets=(name,)) for name in names for key, kind in kinds.items()}
    start, folder = time.perf_counter(), options.output / options.experiment
    ablation = ablate(evaluated, folder, configuration("ntf", settings), variants=variants, seeds=range(options.seeds))
    pictures = {name: [int((splits.train.only([name]).labels == label).sum()) for label in (1, 0)] for name in names}
    seeds = counted(options.seeds, "seed")
    listed = ", ".join(f"{name} ({counted(fakes, 'fake')}, {counted(reals, 'real')})" for name, (fakes, reals) in pictures.items())
    print(f"Trained on {listed}; {seeds}; AP on the {split} split, per cent; {time.perf_counter() - start:.0f} s\n")
    print("| trained on | variant | seen subset | unseen subsets | gain over cross-entropy | worst unseen | spread of z_hom |")
    print("|---|---|---|---|---|---|---|")
    for result in ablation.results:
        print(row_of(result, [folder / result.variant.replace(":", "-") / str(seed) for seed in result.seeds]))
    if options.experiment == "sources" and len(splits.test.fake_subsets) > 1:
        print(f"\n{means_over_sources(splits, folder, kinds, names, options.seeds)}")


def means_over_sources(splits: DetectionSplits, folder: Path, kinds: Mapping[str, Variant], names: Sequence[str], seeds: int) -> str:
    """The table of all sources together, with the test reals that are flagged where 1 % of all validation reals are."""
    runs = {kind: {name: [folder / f"{kind}-{name}" / str(seed) for seed in range(seeds)] for name in names} for kind in kinds}
    evaluations = {
        kind: {name: [Evaluation.load(run / EVALUATION_FILE) for run in of_name] for name, of_name in by_name.items()}
        for kind, by_name in runs.items()
    }
    titles = {kind: variant.title for kind, variant in kinds.items()}
    lines = [kind for kind in kinds if kind != BASE]
    table = sources_table(across_sources(splits.test, evaluations), titles, lines, len(names), seeds)
    reals = splits.validation.take(np.flatnonzero(splits.validation.labels == REAL))
    is_real = splits.test.labels == REAL
    table.header.append("FPR at the 1 % threshold")
    for kind, row in zip(runs, table.rows, strict=True):
        shares = [
            share_above(score_data(load_detector(run, "cpu"), reals).scores, np.array(evaluation.scores.score)[is_real])
            for name in names
            for run, evaluation in zip(runs[kind][name], evaluations[kind][name], strict=True)
        ]
        row.append(f"{100 * np.mean(shares):.1f} ({100 * min(shares):.1f} to {100 * max(shares):.1f})")
    return table.render("markdown")


def row_of(result: Result, runs: Sequence[Path]) -> str:
    (name,), precisions = result.trained_on, [by_subset(run) for run in runs]
    unseen = {subset: np.mean([run[subset] for run in precisions]) for subset in precisions[0] if subset != name}
    worst = min(unseen, key=unseen.__getitem__)
    seen = f"{100 * np.mean([run[name] for run in precisions]):.1f}"
    gain = "" if result.gain is None else percent(result.gain["ap"], True)
    cells = [name, result.title, seen, percent(result.unseen["ap"], True), gain, f"{worst} {100 * unseen[worst]:.1f}", spread_of(runs)]
    return "| " + " | ".join(cells) + " |"


def by_subset(run: Path) -> dict[str, float]:
    """The AP of each subset."""
    evaluation = json.loads((run / EVALUATION_FILE).read_text(encoding="utf-8"))
    return {row["name"]: row["measures"]["ap"]["value"] for row in evaluation["subsets"]}


def spread_of(runs: Sequence[Path]) -> str:
    """The standard deviation of z_hom at the first and the last epoch of stage 1, of the runs that trained one themselves."""
    histories = [json.loads((run / METRICS_FILE).read_text(encoding="utf-8")).get("stage1", []) for run in runs]
    ends = [(history[0]["hom_std"], history[-1]["hom_std"]) for history in histories if history]
    return "{:.4f} to {:.4f}".format(*np.mean(ends, axis=0)) if ends else ""


if __name__ == "__main__":
    main()
