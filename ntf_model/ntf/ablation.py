"""What each part of NTF adds: variants of the losses and of the data that it is trained on, compared with the ordinary classifier.

Every variant is trained with several seeds on the same data and evaluated on the same test split. Runs that are there already are not
made again, and variants that differ in stage 2 alone share their stage 1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from foreign.json_files import read_json
from foreign.progress import Progress, silent
from ntf_model.data.data import REAL, DetectionData, DetectionSplits
from ntf_model.detector import Detector, DetectorConfig, TrainingRun
from ntf_model.errors import InputError, counted
from ntf_model.judging.bootstrap import Measure, bootstrap_counts, difference_with_interval, resample
from ntf_model.judging.evaluate import Evaluation, evaluate
from ntf_model.judging.metrics import MEASURES
from ntf_model.judging.tables import LABELS, Cell, Figure, Table
from ntf_model.ntf.config import NTFConfig, merge
from ntf_model.ntf.ntf import NTFDetector
from ntf_model.registry import get_detector, load_detector
from ntf_model.runs import EVALUATION_FILE, RUN_FILE, STAGE1_FOLDER, read_config
from ntf_model.training.resume import is_first_process

SHOWN = ("ap", "auroc", "acc_fixed", "tpr_at_fpr_5")
BASE, LINE_TO_BEAT = "ntf", "cross-entropy"


@dataclass(frozen=True)
class Variant:
    """Changes to the configuration, and the subsets of fakes that are trained on (all, if None). Another `detector` than NTF gets those
    settings of NTF's configuration that it has too, such as the encoder, and no changes."""

    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    subsets: tuple[str, ...] | None = None
    detector: str = "ntf"


VARIANTS: dict[str, Variant] = {
    BASE: Variant("NTF"),
    LINE_TO_BEAT: Variant("cross-entropy alone, fresh encoder", {"stage2": {"contrastive": "none", "from_stage1": False}}),
    "cross-entropy-stage1": Variant("cross-entropy alone, after stage 1", {"stage2": {"contrastive": "none"}}),
    "without-ort": Variant("without L_ort", {"stage1": {"terms": ("hom", "het")}}),
    "without-het-ort": Variant("without L_het and L_ort", {"stage1": {"terms": ("hom",)}}),
    "signed-ort": Variant("L_ort as printed (signed)", {"stage1": {"orthogonal": "signed"}}),
    "hom-anchors": Variant("L_hom per anchor", {"stage1": {"hom_over": "anchors"}}),
    "literal": Variant(
        "all losses as printed",
        {"stage1": {"orthogonal": "signed", "reduction": "sum"}, "stage2": {"contrastive": "literal"}},
    ),
    "soft": Variant("soft contrastive loss (ours for v2)", {"stage2": {"contrastive": "soft"}}),
    "real-anchors": Variant("real anchors alone in Eq. 5", {"stage2": {"contrastive": "reals"}}),
    "fresh-student": Variant("a student that starts afresh", {"stage2": {"student": "fresh"}}),
    "fresh-reals": Variant("a student that starts afresh, real anchors alone", {"stage2": {"student": "fresh", "contrastive": "reals"}}),
    "trace-images": Variant("each real's z_hom in Eq. 5", {"stage2": {"trace": "images"}}),
    "trace-prototype": Variant("one prototype in Eq. 5", {"stage2": {"trace": "prototype"}}),
    "patch-32": Variant("32 px patches in Eq. 5", {"stage2": {"patch": 32}}),
    "frozen": Variant("frozen encoder", {"stage2": {"freeze_encoder": True}}),
}


PROBE = "probe"
ON_REQUEST: dict[str, Variant] = {PROBE: Variant("frozen probe of the same encoder", detector=PROBE)}


class Result(BaseModel):
    """One variant over all seeds: the mean over test subsets and seeds. `unseen` leaves out the subsets that were trained on; `gain` is the
    difference of `unseen` (or of `overall`, if none is unseen) to cross-entropy alone on the same data. Intervals are from a bootstrap
    over seeds and pictures."""

    variant: str
    title: str
    trained_on: list[str]
    seeds: list[int]
    overall: dict[str, Measure]
    unseen: dict[str, Measure] | None
    gain: dict[str, Measure] | None


class Ablation(BaseModel):
    """All variants, in the order in which they were asked for. `rehearsal` says how they were only tried out; mostly empty."""

    data_digest: str
    results: list[Result]
    rehearsal: str = ""


def source_variants(splits: DetectionSplits) -> dict[str, Variant]:
    """NTF and the line to beat trained on each single subset: the training source (Fig. 4)."""
    variants = {}
    for name in splits.train.fake_subsets:
        variants[f"{BASE}:{name}"] = Variant(f"NTF on {name}", subsets=(name,))
        variants[f"{LINE_TO_BEAT}:{name}"] = Variant(f"cross-entropy on {name}", VARIANTS[LINE_TO_BEAT].changes, (name,))
    return variants


def breadth_variants(splits: DetectionSplits, counts: Sequence[int]) -> dict[str, Variant]:
    """NTF trained on the first so many subsets: the breadth of the training set (Fig. 4)."""
    names = splits.train.fake_subsets
    wrong = [count for count in counts if not 1 <= count <= len(names)]
    if wrong:
        raise InputError(
            f"cannot train on {counted(wrong[0], 'subset')}", f"The data have {len(names)}: choose at most as many, and at least one"
        )
    return {f"{BASE}:first-{count}": Variant(f"NTF on {counted(count, 'subset')}", subsets=tuple(names[:count])) for count in counts}


def chosen_variants(
    splits: DetectionSplits, names: Sequence[str] | None = None, sources: bool = False, breadth: Sequence[int] = ()
) -> dict[str, Variant]:
    """The variants `names` (of VARIANTS and ON_REQUEST), each subset as the only training source, and growing numbers of subsets.

    Without `names` all of VARIANTS, or NTF and the line to beat where sources or breadth are asked for. InputError for an unknown name.
    """
    names = names or ((BASE, LINE_TO_BEAT) if sources or breadth else tuple(VARIANTS))
    known = VARIANTS | ON_REQUEST
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"there is no variant {unknown[0]!r}", f"Known: {', '.join(known)}")
    return {name: known[name] for name in names} | (source_variants(splits) if sources else {}) | breadth_variants(splits, breadth)


def ablate(
    splits: DetectionSplits,
    output: Path,
    config: NTFConfig,
    *,
    variants: Mapping[str, Variant] = VARIANTS,
    train_on: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    bootstrap: int = 1000,
    device: str | None = None,
    on_progress: Progress = silent,
) -> Ablation:
    """Trains and evaluates every variant with every seed, under `output/VARIANT/SEED/`.

    `config` is what the variants change; `train_on` the subsets that all of them train on, unless a variant names its own. Raises
    InputError for an unknown subset, or if `output` holds runs on other data.
    """
    runs = [(name, variant, seed) for name, variant in variants.items() for seed in seeds]
    evaluations: dict[str, list[Evaluation]] = {name: [] for name in variants}
    trained_on: dict[str, list[str]] = {}
    stage1: dict[str, Path] = {}
    for place, (name, variant, seed) in enumerate(runs):
        on_progress(place, len(runs), f"{variant.title}, seed {seed}")
        subsets = variant.subsets or train_on
        part = splits.only(list(subsets)) if subsets else splits
        trained_on[name] = part.train.fake_subsets
        settings: DetectorConfig = merge(config, {"seed": seed, **_plain(variant.changes)})
        kind = get_detector(variant.detector)
        if kind is not NTFDetector:
            settings = _shared(settings, kind)
        folder = Path(output) / name.replace(":", "-") / str(seed)
        key = _stage1_key(settings, splits.train, part.train) if isinstance(settings, NTFConfig) else ""
        if (folder / EVALUATION_FILE).is_file():
            evaluation = Evaluation.load(folder / EVALUATION_FILE)
            _check_same(evaluation, splits, settings, folder)
        else:
            run = TrainingRun(folder, resume=True, device=device)
            detector: Detector | None = _trained(part, settings, folder, device)
            if detector is None and isinstance(settings, NTFConfig):
                detector = NTFDetector.train(part, settings, run, stage1.get(key))
            if detector is None:
                detector = kind.train(part, settings, run)
            evaluation = evaluate(detector, splits.test, part.validation, bootstrap=0)
            if is_first_process():
                evaluation.save(folder / EVALUATION_FILE)
        if (folder / STAGE1_FOLDER).is_dir():
            stage1.setdefault(key, folder / STAGE1_FOLDER)
        evaluations[name].append(evaluation)
    on_progress(len(runs), len(runs), "ablation")
    titles = {name: variant.title for name, variant in variants.items()}
    return summarise_ablation(splits.test, evaluations, trained_on, titles, seeds, bootstrap)


def summarise_ablation(
    test: DetectionData,
    evaluations: Mapping[str, Sequence[Evaluation]],
    trained_on: Mapping[str, list[str]],
    titles: Mapping[str, str],
    seeds: Sequence[int],
    bootstrap: int = 1000,
) -> Ablation:
    """The table's rows from evaluations that are there already, one for each variant and seed."""
    drawn = {name: [replicates_of(test, run, bootstrap) for run in runs] for name, runs in evaluations.items()}
    first = next(iter(evaluations.values()))[0]
    measured = [subset for subset in test.fake_subsets if first.row(subset).is_measured]  # one without reals has no AP
    results = []
    for name, runs in evaluations.items():
        unseen = [subset for subset in measured if subset not in trained_on[name]]
        lines = (other for other in evaluations if other.split(":")[0] == LINE_TO_BEAT and trained_on[other] == trained_on[name])
        line = next(lines, None)
        counted = unseen or measured
        gain = None
        if line is not None and line != name:
            gain = {key: _difference(runs, evaluations[line], drawn[name], drawn[line], counted, key) for key in MEASURES}
        results.append(
            Result(
                variant=name,
                title=titles[name],
                trained_on=trained_on[name],
                seeds=list(seeds),
                overall={key: _mean(runs, drawn[name], measured, key) for key in MEASURES},
                unseen={key: _mean(runs, drawn[name], unseen, key) for key in MEASURES} if unseen else None,
                gain=gain,
            )
        )
    return Ablation(
        data_digest=test.digest,
        results=results,
        rehearsal=next((run.rehearsal for runs in evaluations.values() for run in runs if run.rehearsal), ""),
    )


def ablation_table(ablation: Ablation) -> Table:
    """One row for each variant: the measures over the test subsets that were not trained on (all of them, where none was left out), and
    the gain in AP over cross-entropy alone."""
    rows: list[list[Cell]] = []
    for result in ablation.results:
        values = result.unseen or result.overall
        gain = "–" if result.gain is None else Figure(result.gain["ap"], True)
        rows.append([result.title, str(len(result.trained_on)), *(Figure(values[key], True) for key in SHOWN), gain])
    seeds = len(ablation.results[0].seeds) if ablation.results else 0
    note = (
        f"Per cent, means over test subsets and {counted(seeds, 'seed')}; 95 % intervals from a bootstrap over seeds and pictures. Subsets "
        "that were trained on are left out of the means unless all were. The gain, in percentage points, is against cross-entropy alone on "
        "the same data, drawn in pairs."
    )
    header = ["variant", "subsets trained on", *(LABELS[key] for key in SHOWN), "gain in AP"]
    return Table("Ablations", header, rows, note=note, rehearsal=ablation.rehearsal)


def replicates_of(test: DetectionData, evaluation: Evaluation, bootstrap: int) -> dict[str, dict[str, np.ndarray]]:
    """Bootstrap replicates of every subset's measures; all runs draw the same pictures."""
    scores = np.array(evaluation.scores.score)
    replicates = {}
    for subset in test.fake_subsets:
        members = test.evaluated_rows(subset)
        counts = bootstrap_counts(test, members, bootstrap, seed=0)
        replicates[subset] = resample(test.labels[members], scores[members], evaluation.threshold, counts)
    return replicates


def seed_draws(seeds: int, replicates: int) -> np.ndarray:
    """How often each seed counts in each replicate: float `[replicates, seeds]`, rows sum to 1."""
    rng = np.random.default_rng(seeds)
    return rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=replicates) / seeds


def _point(runs: Sequence[Evaluation], subsets: Sequence[str], key: str) -> float:
    values = [run.row(subset).measures[key].value for run in runs for subset in subsets]
    return float(np.mean([np.nan if value is None else value for value in values]))


def _drawn(drawn: Sequence[Mapping[str, Mapping[str, np.ndarray]]], subsets: Sequence[str], key: str) -> np.ndarray:
    """The mean over subsets and drawn seeds in each replicate."""
    by_seed = np.stack([np.mean([replicates[subset][key] for subset in subsets], axis=0) for replicates in drawn], axis=1)
    return (by_seed * seed_draws(by_seed.shape[1], len(by_seed))).sum(1)


def _mean(runs: Sequence[Evaluation], drawn: Sequence[Any], subsets: Sequence[str], key: str) -> Measure:
    return difference_with_interval(_point(runs, subsets, key), _drawn(drawn, subsets, key))


def _difference(
    runs: Sequence[Evaluation],
    line: Sequence[Evaluation],
    drawn: Sequence[Any],
    line_drawn: Sequence[Any],
    subsets: Sequence[str],
    key: str,
) -> Measure:
    value = _point(runs, subsets, key) - _point(line, subsets, key)
    return difference_with_interval(value, _drawn(drawn, subsets, key) - _drawn(line_drawn, subsets, key))


def _stage1_key(config: NTFConfig, whole: DetectionData, part: DetectionData) -> str:
    """What decides the weights of stage 1: the settings and the reals, whatever fakes `part` of the training split has beside them."""
    values = config.model_dump(mode="json", exclude={"stage2", "test_crops", "threads", "checkpoint_every"})
    real = (whole.labels == REAL) & np.isin(whole.subsets, part.subsets[part.labels == REAL])
    return hashlib.sha256(json.dumps([values, whole.digest, np.flatnonzero(real).tolist()], sort_keys=True).encode()).hexdigest()


def _shared(config: DetectorConfig, kind: type[Detector]) -> DetectorConfig:
    """What another detector shares with NTF's configuration: its seed and, if it stands on one, its encoder (as it is for a probe)."""
    values = {key: value for key, value in config.model_dump().items() if key in kind.Config.model_fields and key != "adaptation"}
    return kind.parse_config(values)


def _trained(splits: DetectionSplits, config: DetectorConfig, folder: Path, device: str | None) -> Detector | None:
    """The detector in `folder`, if one was trained there on the same data with the same settings, and only its evaluation is missing."""
    if not (folder / RUN_FILE).is_file():
        return None
    run = read_json(folder / RUN_FILE)
    same = all(run["dataset"][split]["digest"] == getattr(splits, split).digest for split in ("train", "validation"))
    return load_detector(folder, device) if same and not _other_settings(run["config"], config) else None


def _check_same(evaluation: Evaluation, splits: DetectionSplits, config: DetectorConfig, folder: Path) -> None:
    other = _other_settings(read_config(folder).get("config"), config)
    if evaluation.data_digest != splits.test.digest:
        raise InputError(f"{folder} holds a run that was evaluated on other data", "Choose another output folder")
    if other:
        raise InputError(f"{folder} holds a run with other settings ({', '.join(other)})", "Choose another output folder")


def _other_settings(kept: Any, config: DetectorConfig) -> list[str]:
    """Names of the settings in which a saved configuration differs from `config`. One that came after it was saved has its default there,
    as it has when the run is loaded."""
    try:
        saved = type(config).model_validate(kept)
    except ValidationError as error:  # a setting that there is no more
        return sorted({".".join(map(str, entry["loc"])) or "all" for entry in error.errors()})
    theirs, ours = _flat(saved.model_dump(mode="json")), _flat(config.model_dump(mode="json"))
    return sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return flat


def _plain(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: dict(value) if isinstance(value, Mapping) else value for key, value in changes.items()}
