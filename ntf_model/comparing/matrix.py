"""The score matrix: what each detector said of each picture, as a Parquet file from which others can make every figure again.

A row for each picture and detector, test and validation. The facts that figures need beside the rows (which reals a subset is compared
with, how thresholds were found, the number of bootstrap replicates) are JSON in the schema's metadata, under `FACTS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foreign.tables import MOST_TEXT, read_columns, read_metadata
from foreign.text import visible
from ntf_model.calibration import Calibration
from ntf_model.data.data import FAKE, DetectionData, Item
from ntf_model.errors import InputError
from ntf_model.files import written_whole
from ntf_model.judging.evaluate import Basis, Evaluation, Scored, Scores, basis_of, summarise

FACTS = "ntf.scores"
TEST, VALIDATION = "test", "validation"
COLUMNS = {
    "image_id": "text",
    "sha256": "text",
    "label": "integer",
    "subset": "text",
    "delivery": "text",
    "split": "text",
    "detector": "text",
    "run": "text",
    "score": "number",
}
MOST_ROWS = 5_000_000
MOST_DRAWS = 10**9  # replicates times pictures: what the bootstrap of a subset may hold
Name = Annotated[str, Field(min_length=1, max_length=500)]


class DetectorFacts(BaseModel):
    """A detector of a matrix. `run` is what tables call it and names its rows, `detector` its kind, `name` what its evaluation has. The
    threshold is looked up on its validation rows if it has any (`fpr`: for that FPR), and is `threshold` otherwise, with `calibration` as
    it was saved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: Name
    detector: Name
    name: Name
    title: Name
    threshold: float = Field(ge=0, le=1)
    fpr: float | None = Field(None, gt=0, lt=1)
    calibration: Calibration | None = None
    trained_on: list[Name] | None = None
    rehearsal: str = Field("", max_length=500)
    note: str = Field("", max_length=2000)


class MatrixFacts(BaseModel):
    """What the rows of a matrix are of. `real_of` and `families` are those of the test split, in its order; `seen` are the subsets that
    count as trained on in the tables that were made with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(1, ge=1, le=1)
    data_digest: str = Field(pattern=r"^[\w-]{1,200}$")  # it names a folder
    validation_digest: str = Field("", pattern=r"^[\w-]{0,200}$")
    data_rehearsal: str = Field("", max_length=500)
    real_of: dict[Name, Name | tuple[Name, ...]] = Field(min_length=1)
    families: dict[Name, Name] = {}
    seen: list[Name] | None = None
    bootstrap: int = Field(1000, ge=0, le=100_000)
    seed: int = Field(0, ge=0, le=2**63 - 1)
    detectors: list[DetectorFacts] = Field(min_length=1, max_length=1000)


class Matrix(NamedTuple):
    """A matrix that was read: its facts, the test split without pictures, and by run the scores of test and validation."""

    file: Path
    facts: MatrixFacts
    data: DetectionData
    test: dict[str, np.ndarray]
    validation: dict[str, Scores]


class NoPictures:
    """The pictures of a split of which only the rows are known."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        raise InputError("a score matrix has no pictures", "Take the dataset itself")


def write_matrix(
    file: Path,
    data: DetectionData,
    validation: DetectionData | None,
    evaluations: dict[str, Evaluation],
    *,
    kinds: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """Writes the matrix of `evaluations` (by what the tables call them) on the test split `data`, and returns the file. `kinds` are the
    detectors' names in the registry, `notes` what a reader of a table must know of each.

    Validation rows are there for the detectors whose threshold comes from them.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(iter(evaluations.values()))
    facts = MatrixFacts(
        data_digest=data.digest,
        validation_digest=first.validation_digest,
        data_rehearsal=str(data.origin.get("rehearsal", "")),
        real_of=dict(data.real_of),
        families=dict(data.families),
        seen=first.seen,
        bootstrap=first.bootstrap,
        seed=seed,
        detectors=[
            _facts_of(name, (kinds or {}).get(name, evaluation.detector), evaluation, (notes or {}).get(name, ""))
            for name, evaluation in evaluations.items()
        ],
    )
    parts = []
    for known, evaluation in zip(facts.detectors, evaluations.values(), strict=True):
        parts.append(_rows(known.run, known.detector, TEST, evaluation.scores, data))
        if evaluation.validation:
            parts.append(_rows(known.run, known.detector, VALIDATION, evaluation.validation, validation))
    types = {"text": pa.string(), "integer": pa.int8(), "number": pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()], metadata={FACTS: facts.model_dump_json()})
    columns = {name: [value for part in parts for value in part[name]] for name in COLUMNS}
    with written_whole(file) as partial:
        pq.write_table(pa.table(columns, schema=schema), partial, compression="zstd")
    return file


def read_matrix(file: Path) -> Matrix:
    """A matrix in the form of `write_matrix`, whichever program wrote it. Names are as `foreign.text.visible` shows them.

    Raises InputError, naming the file, if it is no matrix, has too many rows, a score that is no probability, or detectors that were not
    tested on the same pictures.
    """
    facts = read_facts(file)
    if facts is None:
        raise InputError(f"{visible(file)} is no score matrix", "Give what `ntf evaluate` or `ntf compare` wrote")
    columns = {name: np.array(values, dtype=object) for name, values in read_columns(file, COLUMNS, MOST_ROWS).columns.items()}
    _check_cells(file, columns, facts)
    facts = _shown_facts(file, facts)
    for name in ("subset", "run", "image_id", "delivery"):
        columns[name] = np.array([value and visible(value, MOST_TEXT) for value in columns[name]], dtype=object)
    of_run = {detector.run: columns["run"] == detector.run for detector in facts.detectors}
    is_test = columns["split"] == TEST
    places = {run: np.flatnonzero(rows & is_test) for run, rows in of_run.items()}
    first = next(iter(places.values()))
    for run, rows in places.items():
        same = len(rows) == len(first) and all(
            (columns[name][rows] == columns[name][first]).all() for name in ("image_id", "label", "subset")
        )
        if not same:
            raise InputError(f"{visible(file)}: {visible(run)} was not tested on the same pictures as the others", "Make it again")
    if len(set(columns["image_id"][first])) < len(first):
        raise InputError(f"{visible(file)} has a picture twice", "Make it again")
    if len(first) * facts.bootstrap > MOST_DRAWS:
        raise InputError(f"{visible(file)} asks for {facts.bootstrap:,} replicates of {len(first):,} pictures", "Make it with fewer")
    data = DetectionData(
        NoPictures(len(first)),
        columns["label"][first].astype(np.int64),
        columns["subset"][first].astype(str),
        facts.real_of,
        dict(facts.families),
        facts.data_digest,
        columns["image_id"][first].astype(str),
        {"rehearsal": facts.data_rehearsal} if facts.data_rehearsal else {},
        deliveries=None if None in columns["delivery"][first] else columns["delivery"][first].astype(str),
    )
    if not data.fake_subsets:
        raise InputError(f"{visible(file)} has no fakes", "Make it again")
    validation = {run: np.flatnonzero(rows & ~is_test) for run, rows in of_run.items()}
    return Matrix(
        file,
        facts,
        data,
        {run: columns["score"][rows].astype(np.float64) for run, rows in places.items()},
        {run: _scores(columns, rows) for run, rows in validation.items() if len(rows)},
    )


def read_facts(file: Path) -> MatrixFacts | None:
    """The facts of a matrix; None if the file is a Parquet file without any. InputError if they are damaged or it is no Parquet file."""
    text = read_metadata(file).get(FACTS)
    if text is None:
        return None
    try:
        return MatrixFacts.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = visible(".".join(str(part) for part in first["loc"]))
        raise InputError(f"{visible(file)}: its facts are damaged ({where}: {visible(first['msg'])})", "Make it again") from None


def evaluations_of(matrix: Matrix, seen: Sequence[str] | None = None) -> dict[str, Evaluation]:
    """Every figure again, by run: to the last digit what the evaluation gave that the matrix was written with.

    `seen` are the subsets that count as trained on, if others than in the matrix do.
    """
    evaluations = {}
    for facts in matrix.facts.detectors:
        held_out = matrix.validation.get(facts.run)
        basis = Basis(facts.threshold, facts.calibration, None, facts.fpr)
        if held_out is not None:
            basis = basis_of(facts.threshold, None, held_out, facts.fpr, matrix.facts.validation_digest)
        evaluations[facts.run] = summarise(
            matrix.data,
            Scored(matrix.data.picture_ids(), matrix.test[facts.run]),
            basis,
            name=facts.name,
            title=facts.title,
            validation_digest=matrix.facts.validation_digest,
            trained_on=facts.trained_on,
            seen=matrix.facts.seen if seen is None else seen,
            bootstrap=matrix.facts.bootstrap,
            seed=matrix.facts.seed,
            rehearsal=facts.rehearsal,
        )
    return evaluations


def _shown_facts(file: Path, facts: MatrixFacts) -> MatrixFacts:
    """The facts with their names on one line each, as a terminal can be shown. InputError if two become one."""

    def shown(value: Any) -> Any:
        if isinstance(value, str):
            return visible(value, MOST_TEXT)
        if isinstance(value, dict):
            names = {shown(name): shown(item) for name, item in value.items()}
            if len(names) < len(value):
                raise InputError(f"{visible(file)} has two names that look alike", "Rename one")
            return names
        return [shown(item) for item in value] if isinstance(value, (list, tuple)) else value

    return MatrixFacts.model_validate(shown(facts.model_dump()))


def _facts_of(run: str, kind: str, evaluation: Evaluation, note: str) -> DetectorFacts:
    return DetectorFacts(
        run=run,
        detector=kind,
        name=evaluation.detector,
        title=evaluation.title.removesuffix(" (rehearsal)") if evaluation.rehearsal else evaluation.title,
        threshold=evaluation.threshold,
        fpr=evaluation.fpr,
        calibration=evaluation.calibration,
        trained_on=evaluation.trained_on,
        rehearsal=evaluation.rehearsal,
        note=note,
    )


def _rows(run: str, detector: str, split: str, scores: Scores, data: DetectionData | None) -> dict[str, Sequence[Any]]:
    """The rows of one detector on one split, column by column."""
    count = len(scores.id)
    return {
        "image_id": scores.id,
        "sha256": _column(None if data is None else data.sha256s, count),
        "label": scores.label,
        "subset": scores.subset,
        "delivery": _column(None if data is None else data.deliveries, count),
        "split": [split] * count,
        "detector": [detector] * count,
        "run": [run] * count,
        "score": scores.score,
    }


def _column(values: np.ndarray | None, count: int) -> Sequence[Any]:
    return [None] * count if values is None else values.tolist()


def _scores(columns: dict[str, np.ndarray], rows: np.ndarray) -> Scores:
    picked: dict[str, Any] = {name: columns[name][rows].tolist() for name in ("image_id", "label", "subset", "score")}
    return Scores(id=picked["image_id"], label=picked["label"], subset=picked["subset"], score=picked["score"])


def _check_cells(file: Path, columns: dict[str, np.ndarray], facts: MatrixFacts) -> None:
    """InputError for a cell that has no meaning, or a run that the facts do not know or know twice."""

    def refuse(rows: Iterable[bool] | np.ndarray, what: str) -> None:
        wrong = np.flatnonzero(np.asarray(rows, dtype=bool))
        if len(wrong):
            raise InputError(f"{visible(file)}, row {int(wrong[0]) + 1}: {what}", "Make it again")

    runs = [detector.run for detector in facts.detectors]
    if len(set(runs)) < len(runs):
        raise InputError(f"{visible(file)} has two detectors of one name", "Make it again")
    if not len(columns["score"]):
        raise InputError(f"{visible(file)} has no rows", "Make it again")
    for name in ("image_id", "subset", "run", "detector"):
        refuse([value is None for value in columns[name]], f"it has no {name}")
    refuse([value not in (0, FAKE) for value in columns["label"]], "the label is neither 0 nor 1")
    refuse([value not in (TEST, VALIDATION) for value in columns["split"]], "the split is neither test nor validation")
    refuse([value not in runs for value in columns["run"]], "the run is not among the facts")
    refuse([value is None or not 0 <= value <= 1 for value in columns["score"]], "the score is no probability")
    fakes = columns["label"] == FAKE
    refuse(fakes & np.array([value not in facts.real_of for value in columns["subset"]]) & (columns["split"] == TEST), "no reals are named")
