"""Detectors on datasets: train, evaluate, compare, ablate, measure robustness, explain. Plain functions behind commands and flows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.data import EvaluatedOn
from foreign.progress import Progress, silent
from generators.errors import InputError
from ntf_model.comparing.compare import Comparison, compare, read_cost, train_all
from ntf_model.comparing.comparison_data import plain_data
from ntf_model.comparing.comparison_tables import write_comparison
from ntf_model.comparing.in_turn import InTurn
from ntf_model.comparing.leaderboard import Board, Leaderboard, subset_table, titles_of
from ntf_model.comparing.matrix import write_matrix
from ntf_model.comparing.rehearsal import few, one_epoch
from ntf_model.comparing.standings import standings_table
from ntf_model.data.data import FAKE, REAL, DetectionData, DetectionSplits
from ntf_model.data.loader import keep_decoded
from ntf_model.detector import Detector
from ntf_model.encoders.build import EncoderSettings
from ntf_model.files import write_json, written_whole
from ntf_model.judging.deliveries import CLEAN, delivery_table, on_deliveries, side_by_side
from ntf_model.judging.evaluate import Evaluation, evaluate
from ntf_model.judging.robustness import robustness, robustness_figure, robustness_table
from ntf_model.judging.tables import reliability_table, result_table, write_table
from ntf_model.ntf.ablation import VARIANTS, Variant, ablate, ablation_table
from ntf_model.ntf.explain import embedding_map, evaluate_distance, explain_subsets, save_embeddings, save_explanations
from ntf_model.ntf.ntf import NTFDetector
from ntf_model.registry import detector_names, get_detector, load_detector
from ntf_model.runs import (
    ABLATION,
    ABLATION_FILE,
    DELIVERIES,
    DELIVERIES_FILE,
    DISTANCE,
    DISTANCE_FILE,
    EVALUATION_FILE,
    GENERATORS,
    RELIABILITY,
    RESULTS,
    ROBUSTNESS,
    ROBUSTNESS_FIGURE,
    ROBUSTNESS_FILE,
    SCORES_FILE,
    rehearsal_of,
    trained_subsets,
)
from ntf_model.training.resume import is_first_process
from pipelines.errors import CheckFailed


@dataclass(frozen=True)
class Evaluated:
    """A trained detector's folder, its evaluation, and the files that the results are in."""

    run: Path
    evaluation: Evaluation
    files: tuple[Path, ...]


def train_detector(
    name: str,
    splits: DetectionSplits,
    output: Path,
    settings: dict[str, Any] | None = None,
    *,
    resume: bool = False,
    device: str | None = None,
    on_progress: Progress = silent,
) -> Detector:
    """Trains the detector `name` on `splits` into the folder `output`. `settings` are values of its configuration, or a `preset`."""
    kind = get_detector(name)
    return kind.fit(splits, configuration(name, settings or {}), output, resume=resume, device=device, on_progress=on_progress)


def configuration(name: str, settings: dict[str, Any]) -> Any:
    """A detector's configuration: the `preset` among `settings` with the other settings over it. Without one it is NTF's "default", and
    every other detector's own defaults."""
    values = {key: value for key, value in settings.items() if key != "preset"}
    if "preset" not in settings and name != "ntf":
        return get_detector(name).parse_config(values)
    return get_detector(name).preset(settings.get("preset", "default"), **values)


def evaluate_detector(
    run: Path,
    splits: DetectionSplits,
    output: Path | None = None,
    delivered: Mapping[str, DetectionData] | None = None,
    on_progress: Progress = silent,
) -> Evaluated:
    """Evaluates the detector in the folder `run` on the test split, and on the same pictures after each delivery of `delivered`. Writes
    JSON, Markdown, CSV, LaTeX and HTML to `output` (or `run`)."""
    data = EvaluatedOn(splits.test, splits.validation, [], splits.notes, delivered or {})
    return evaluate_anywhere(run, data, output or run, on_progress=on_progress)


def evaluate_anywhere(
    run: Path, data: EvaluatedOn, output: Path | None, *, fpr: float | None = None, on_progress: Progress = silent
) -> Evaluated:
    """Evaluates the detector in `run`. Without validation pictures the threshold is the one that it was saved with. With `fpr` it is the
    one at which at most that share of reals is called fake. Results of a folder go to a folder of its name in `run`."""
    detector = load_detector(run)
    result = evaluate(
        detector,
        data.test,
        data.validation,
        fpr=fpr,
        trained_on=trained_on(run, detector, data.test),
        rehearsal=rehearsal_of(run),
        on_progress=on_progress,
    )
    folder = data.test.origin.get("folder")
    into = output or (run / Path(folder).name if folder else run)
    written = _write_results(run, result, into, data, detector)
    if not data.delivered:
        return written
    delivered = on_deliveries(detector, result, data.delivered, on_progress)
    judged = {detector.name: {CLEAN: result, **delivered}}
    return replace(written, files=(*written.files, *_write_deliveries(judged, data.delivered, into)))


def evaluate_together(
    runs: Mapping[str, Path],
    scores: Mapping[str, Path],
    data: EvaluatedOn,
    output: Path,
    *,
    fpr: float | None = None,
    on_progress: Progress = silent,
) -> list[Path]:
    """Evaluates the detectors in `runs` and the files of `scores`, by the names that the tables give them, side by side in `output`.

    Without validation pictures, with the thresholds that the detectors have; with `fpr` those at which at most that share of reals is
    called fake.
    """
    detectors = InTurn(runs)
    costs = {name: read_cost(run) for name, run in runs.items()}
    tried = {name: rehearsal_of(run) for name, run in runs.items()}
    comparison = compare(
        detectors,
        data.test,
        data.validation,
        scores=scores,
        known=data.known,
        training=costs,
        rehearsals=tried,
        trained_on={name: trained_on(run, detectors[name], data.test) for name, run in runs.items()},
        fpr=fpr,
        on_progress=on_progress,
    )
    written = _write_comparison(comparison, output, data.test, data.validation, detectors)
    return [*written, *_compare_deliveries(comparison, detectors, data.delivered, output, on_progress)]


def compare_detectors(
    splits: DetectionSplits,
    output: Path,
    names: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    limit: int | None = None,
    scores: Mapping[str, Path] | None = None,
    delivered: Mapping[str, DetectionData] | None = None,
    fpr: float | None = None,
    device: str | None = None,
    on_progress: Progress = silent,
) -> list[Path]:
    """Trains (or takes over from `output`) the detectors `names`, all by default, judges them on the test split, and writes the tables.

    `settings` are a `preset` ("demo" if it is not given) and a `seed` for all of them, and an `encoder` for those that stand on one; what
    else is in it is for NTF alone. Pictures are decoded once for all detectors. With `limit` there are that many pictures in each split,
    and one epoch. On `delivered`, the test pictures after each delivery, by name, all are judged too. Under `accelerate launch` every
    process trains, and the first one alone judges; the others return no files.
    """
    chosen = {"preset": "demo", **(settings or {})}
    common: dict[str, Any] = {key: chosen[key] for key in ("preset", "seed") if key in chosen}
    encoder = {"encoder": chosen["encoder"]} if "encoder" in chosen else {}  # for all that stand on one
    configs = {
        name: configuration(name, chosen if name == "ntf" else {**common, **(encoder if _has_encoder(name) else {})})
        for name in names or detector_names()
    }
    if limit:
        splits, configs = few(splits, limit), {name: one_epoch(config, limit) for name, config in configs.items()}
    splits = DetectionSplits(*map(keep_decoded, splits))
    known = [name for split in splits for name in split.picture_ids()] if scores else None
    detectors = train_all(splits, configs, output, resume=True, device=device, on_progress=on_progress)
    if not is_first_process():
        return []
    costs = {name: read_cost(output / name) for name in detectors}
    comparison = compare(
        detectors,
        splits.test,
        splits.validation,
        scores=scores,
        known=known,
        training=costs,
        trained_on={name: trained_on(output / name, detectors[name], splits.test) for name in detectors},
        fpr=fpr,
        on_progress=on_progress,
    )
    chosen_tests = {} if limit else delivered or {}
    written = _write_comparison(comparison, output, splits.test, splits.validation, detectors)
    return [*written, *_compare_deliveries(comparison, detectors, chosen_tests, output, on_progress)]


def trained_on(run: Path, detector: Detector, data: DetectionData) -> list[str] | None:
    """The subsets of fakes of `data` that a detector was trained on; None if that is not recorded. One that learns from reals alone has
    seen none."""
    return trained_subsets(run, data) if FAKE in getattr(detector, "labels", (REAL, FAKE)) else []


def _has_encoder(name: str) -> bool:
    return issubclass(get_detector(name).Config, EncoderSettings)


def ablate_ntf(
    splits: DetectionSplits,
    output: Path,
    settings: dict[str, Any],
    train_on: Sequence[str] | None,
    seeds: Sequence[int],
    variants: Mapping[str, Variant] = VARIANTS,
    on_progress: Progress = silent,
) -> list[Path]:
    """The ablation's table as Markdown, CSV, LaTeX, HTML and JSON in `output`, beside its runs. Under `accelerate launch` the first process
    writes them, and the others return no files."""
    config = configuration("ntf", settings)
    ablation = ablate(splits, output, config, variants=variants, train_on=train_on, seeds=seeds, on_progress=on_progress)
    if not is_first_process():
        return []
    write_json(output / ABLATION_FILE, ablation.model_dump())
    return write_table(ablation_table(ablation), output / ABLATION)


def measure_robustness(run: Path, splits: DetectionSplits, on_progress: Progress = silent) -> list[Path]:
    """Robustness as a table, as JSON and as curves, in `run`."""
    curves = robustness(load_detector(run), splits.test, splits.validation, rehearsal=rehearsal_of(run), on_progress=on_progress)
    write_json(run / ROBUSTNESS_FILE, curves.model_dump())
    robustness_figure([curves], run / ROBUSTNESS_FIGURE)
    return [*write_table(robustness_table(curves), run / ROBUSTNESS), run / ROBUSTNESS_FIGURE]


def explain_ntf(run: Path, splits: DetectionSplits, output: Path, on_progress: Progress = silent) -> list[Path]:
    """Grad-CAM++ sheet, embedding map, and the evaluation of the distance to the trace if there is one. InputError for another detector
    than NTF."""
    detector = load_detector(run)
    if not isinstance(detector, NTFDetector):
        raise InputError(f"{run} holds {detector.title}, and only NTF has a trace to explain", "Give a run of NTF")
    pictures = save_explanations(explain_subsets(detector, splits.test, on_progress=on_progress), output)
    pictures += save_embeddings(embedding_map(detector, splits.test, on_progress=on_progress), output)
    if detector.trace is None:  # trained without stage 1
        return pictures
    distance = evaluate_distance(detector, splits.test, splits.validation, on_progress=on_progress).model_copy(
        update={"rehearsal": rehearsal_of(run)}
    )
    distance.save(output / DISTANCE_FILE)
    return [*pictures, *write_table(result_table(distance), output / DISTANCE)]


def board_tables(board: Board, per_generator: bool = False) -> list[str]:
    """What a person reads of a board, as Markdown: what it is of, the standings, and with `per_generator` each generator."""
    comparison, reals = board.comparison, int((board.data.labels == REAL).sum())
    first = next(iter(comparison.evaluations.values()))
    titles = titles_of(comparison)
    deliveries = [] if board.data.deliveries is None else sorted(set(board.data.deliveries.tolist()))
    delivered = f", delivered as {', '.join(deliveries)}" if deliveries not in ([], [CLEAN]) else ""
    said = f"{reals:,} reals and {len(board.data) - reals:,} fakes of {len(first.subsets)} generators{delivered}"
    tables = [standings_table(comparison.standings, first.leading, titles, comparison.rehearsal)]
    tables += [subset_table(board)] if per_generator else []
    return [f"## Test split {board.data.digest[:12]}: {said}\n", *(table.render("markdown") for table in tables)]


def board_facts(board: Board) -> dict[str, Any]:
    """A board for scripts."""
    comparison = board.comparison
    facts = plain_data(comparison).model_dump()
    return {
        **facts,
        "matrices": [str(file) for file in board.files],
        "pictures": len(board.data),
        "standings": [standing.model_dump() for standing in comparison.standings],
    }


def write_boards(leaderboard: Leaderboard, output: Path) -> list[Path]:
    """Every table of every board in `output`, in a folder for each test split where there are several; the files."""
    files: list[Path] = []
    for board in leaderboard.boards:
        folder = output if len(leaderboard.boards) == 1 else output / board.data.digest[:12]
        files += write_comparison(board.comparison, folder)
        files += write_table(subset_table(board), folder / GENERATORS)
    return files


def export_onnx(run: Path, file: Path) -> float:
    """Writes the detector in `run` to an ONNX file and returns the largest difference between onnxruntime and the detector.

    Raises CheckFailed, and writes nothing, if it is above `ntf_model.onnx_file.TOLERANCE`; InputError if the detector cannot be written so.
    """
    from ntf_model.onnx_file import TOLERANCE, difference, to_onnx

    detector = load_detector(run, "cpu")
    data = to_onnx(detector)
    largest = difference(data, detector)
    if not largest <= TOLERANCE:
        raise CheckFailed(f"onnxruntime differs from {detector.title} by {largest:.1e}, more than {TOLERANCE:.0e}: {file} was not written")
    try:
        with written_whole(file) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise InputError.unwritable(f"write {file}", error) from None
    return largest


def _write_results(run: Path, result: Evaluation, folder: Path, data: EvaluatedOn, detector: Detector) -> Evaluated:
    result.save(folder / EVALUATION_FILE)
    files = [folder / EVALUATION_FILE, *write_table(result_table(result), folder / RESULTS)]
    if result.reliability:
        table = reliability_table(result.reliability, result.title, rehearsal=result.rehearsal)
        files += write_table(table, folder / RELIABILITY)
    name = run.resolve().name
    matrix = folder / SCORES_FILE
    write_matrix(matrix, data.test, data.validation, {name: result}, kinds={name: detector.name}, notes={name: detector.note})
    return Evaluated(run, result, (*files, matrix))


def _compare_deliveries(
    comparison: Comparison,
    detectors: Mapping[str, Detector],
    delivered: Mapping[str, DetectionData],
    folder: Path,
    on_progress: Progress,
) -> list[Path]:
    """The table of all detectors on all deliveries; nothing where there are none. Files of scores have none of delivered pictures."""
    if not delivered or not detectors:
        return []
    judged = {}
    for name in detectors:
        clean = comparison.evaluations[name]
        judged[name] = {CLEAN: clean, **on_deliveries(detectors[name], clean, delivered, on_progress)}
    return _write_deliveries(judged, delivered, folder)


def _write_deliveries(
    evaluations: Mapping[str, Mapping[str, Evaluation]], delivered: Mapping[str, DetectionData], folder: Path
) -> list[Path]:
    """The table, and a score matrix for each delivery, in the order of their names."""
    results = side_by_side(evaluations)
    write_json(folder / DELIVERIES_FILE, results.model_dump())
    for number, (delivery, data) in enumerate(delivered.items()):
        own = {name: by_delivery[delivery] for name, by_delivery in evaluations.items()}
        write_matrix(folder / DELIVERIES / f"{number:02d}-{SCORES_FILE}", data, None, own)
    return write_table(delivery_table(results), folder / DELIVERIES)


def _write_comparison(
    comparison: Comparison, folder: Path, data: DetectionData, validation: DetectionData | None, detectors: Mapping[str, Detector]
) -> list[Path]:
    """The tables, the score matrix, and each evaluation in a folder of its own, where `report` finds it."""
    for name, evaluation in comparison.evaluations.items():
        evaluation.save(folder / name / EVALUATION_FILE)
    kinds = {name: detectors[name].name for name in detectors}
    matrix = write_matrix(folder / SCORES_FILE, data, validation, comparison.evaluations, kinds=kinds, notes=comparison.notes)
    return [*write_comparison(comparison, folder), matrix]
