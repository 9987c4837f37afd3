"""Every table again from score matrices alone, without pictures, detectors or a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from foreign.text import visible
from ntf_model.comparing.compare import Comparison, Cost, compared, seen_by_any
from ntf_model.comparing.matrix import Matrix, evaluations_of, read_facts, read_matrix
from ntf_model.data.data import DetectionData
from ntf_model.errors import InputError, counted
from ntf_model.judging.evaluate import Evaluation, Row
from ntf_model.judging.tables import LABELS, Cell, Figure, Table

MOST_FILES = 10_000


class Board(NamedTuple):
    """All detectors on one test split, and the matrices that say it."""

    comparison: Comparison
    data: DetectionData
    files: list[Path]


class Leaderboard(NamedTuple):
    """A board for each test split, and sentences about files that were left out."""

    boards: list[Board]
    notes: list[str]


def read_leaderboard(folder: Path) -> Leaderboard:
    """The boards of all matrices under `folder`, those of one test split together.

    Parquet files that are no matrices are left out, and so is a detector that comes again with the same scores. Two detectors of one name
    are told apart by their folders. Raises InputError if there is no matrix, one is damaged, or two of one test split do not agree on it.
    """
    files = _files(folder)
    matrices, others = [], []
    for file in files:
        if read_facts(file) is None:
            others.append(file)
        else:
            matrices.append(read_matrix(file))
    if not matrices:
        raise InputError(f"there is no score matrix in {visible(folder)}", "Make one with `ntf evaluate` or `ntf compare`")
    notes = (
        [f"{counted(len(others), 'Parquet file')} left out that {'is' if len(others) == 1 else 'are'} no score matrix"] if others else []
    )
    by_split: dict[str, list[Matrix]] = {}
    for matrix in matrices:
        by_split.setdefault(matrix.facts.data_digest, []).append(matrix)
    return Leaderboard([_board(group, folder, notes) for group in by_split.values()], notes)


def subset_table(board: Board) -> Table:
    """The leading measure of each generator by each detector, held-out ones first; a star where that detector was trained on it."""
    evaluations = board.comparison.evaluations
    first = next(iter(evaluations.values()))
    key, seen = first.leading, first.seen
    order = sorted(first.subsets, key=lambda row: row.name in (seen or ()))
    rows: list[list[Cell]] = []
    for row in order:
        kind = "–" if seen is None else "trained-on" if row.name in seen else "held-out"
        cells: list[Cell] = [row.name, row.family, kind, str(row.n_real), str(row.n_fake)]
        cells += [_marked(evaluation.row(row.name), key, evaluation) for evaluation in evaluations.values()]
        rows.append(cells)
    titles = titles_of(board.comparison)
    header = ["generator", "family", "in training", "reals", "fakes", *titles.values()]
    note = f"{LABELS[key]} in per cent, with 95 % intervals. * this detector was trained on this generator."
    return Table(f"{LABELS[key]} by generator", header, rows, note=note, rehearsal=board.comparison.rehearsal)


def titles_of(comparison: Comparison) -> dict[str, str]:
    """What tables call each detector: its title, with the name beside it where two have the same title."""
    titles = {name: evaluation.title for name, evaluation in comparison.evaluations.items()}
    several = {title for title in titles.values() if list(titles.values()).count(title) > 1}
    return {name: f"{title} ({name})" if title in several else title for name, title in titles.items()}


def _marked(row: Row, key: str, evaluation: Evaluation) -> Figure:
    return Figure(row.measures[key], True, remark=" *" if row.name in (evaluation.trained_on or ()) else "")


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {visible(folder)}", "Give a folder with score matrices")
    files = []
    for file in folder.rglob("*.parquet"):
        if not file.name.startswith("."):
            files.append(file)
        if len(files) > MOST_FILES:
            raise InputError(f"{visible(folder)} has more than {MOST_FILES:,} Parquet files", "Give a folder of its own for the matrices")
    return sorted(files)


def _board(matrices: Sequence[Matrix], folder: Path, notes: list[str]) -> Board:
    first = matrices[0]
    for other in matrices[1:]:
        _require_same_split(first, other)
    trained_on = [detector.trained_on for matrix in matrices for detector in matrix.facts.detectors]
    seen = seen_by_any(trained_on, first.data)
    evaluations: dict[str, Evaluation] = {}
    kinds: dict[str, str] = {}
    remarks: dict[str, str] = {}
    again = 0
    for matrix in matrices:
        facts = {detector.run: detector for detector in matrix.facts.detectors}
        for run, evaluation in evaluations_of(matrix, seen).items():
            name = run
            if name in evaluations:
                if _same(evaluations[name], evaluation):
                    again += 1
                    continue
                name = _free_name(f"{run} in {matrix.file.parent.relative_to(folder)}", evaluations)
            evaluations[name], kinds[name], remarks[name] = evaluation, facts[run].detector, facts[run].note
    if again:
        notes.append(f"{counted(again, 'detector')} left out that came again with the same scores")
    comparison = compared(
        first.data,
        evaluations,
        costs=dict.fromkeys(evaluations, Cost()),
        notes=remarks,
        kinds=kinds,
        bootstrap=first.facts.bootstrap,
        seed=first.facts.seed,
    )
    return Board(comparison, first.data, [matrix.file for matrix in matrices])


def _require_same_split(first: Matrix, other: Matrix) -> None:
    for name in ("real_of", "families", "bootstrap", "seed"):
        if getattr(first.facts, name) != getattr(other.facts, name):
            raise InputError(
                f"{visible(first.file)} and {visible(other.file)} do not agree on {name}", "Keep matrices of one evaluation together"
            )
    same = all(
        len(getattr(first.data, name)) == len(getattr(other.data, name)) and (getattr(first.data, name) == getattr(other.data, name)).all()
        for name in ("ids", "labels", "subsets")
    )
    if not same:
        raise InputError(f"{visible(first.file)} and {visible(other.file)} say one digest of different pictures", "One of them was changed")


def _same(one: Evaluation, other: Evaluation) -> bool:
    return one.scores == other.scores and one.threshold == other.threshold and one.validation == other.validation


def _free_name(name: str, taken: Iterable[str]) -> str:
    taken, number, free = set(taken), 2, name
    while free in taken:
        free, number = f"{name} ({number})", number + 1
    return free
