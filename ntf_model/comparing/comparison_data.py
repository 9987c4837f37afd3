"""A comparison as plain data: what its tables show and no more, for whoever draws them anew (the store's report, a notebook)."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from foreign.json_files import read_json
from ntf_model.comparing.compare import Comparison
from ntf_model.errors import InputError
from ntf_model.judging.bootstrap import Measure
from ntf_model.judging.evaluate import Evaluation, Row
from ntf_model.judging.tables import in_order

MEASURES = ("ap", "acc", "fpr", "fnr", "auroc", "tpr_at_fpr_1", "acc_fixed")
LOWER_IS_BETTER = ("fpr", "fnr")
MEAN, WEIGHTED_MEAN = "mean", "weighted mean"


class Contestant(BaseModel):
    """A detector and what it costs; None where that is not known. `note` is what a reader must know of this copy, often empty."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    parameters: int | None
    images_per_second: float | None
    training_seconds: float | None
    memory_mib: float | None  # at the peak of its training
    note: str


class PairedMeasure(Measure):
    """A difference with its interval, and its two-sided bootstrap probability."""

    p: float | None = None


class Paired(BaseModel):
    """The reference minus `other`, averaged over subsets."""

    model_config = ConfigDict(frozen=True)

    reference: str
    other: str
    measures: dict[str, PairedMeasure]


class ComparisonData(BaseModel):
    """Rows are `detectors`, columns `columns`; `cells[detector][column][measure]`, values in [0, 1].

    Columns are the subsets, then "<family> mean" for each family, "mean" (both unweighted) and "weighted mean" (by number of fakes).
    `families` says the family of each subset. `measures` are in the order of the tables; those in `lower_is_better` are error rates.
    """

    data_digest: str
    detectors: list[Contestant]
    columns: list[str]
    families: dict[str, str]
    measures: list[str]
    lower_is_better: list[str]
    cells: dict[str, dict[str, dict[str, Measure]]]
    paired: list[Paired]
    chance: dict[str, float | None] = {}  # the AP of random scores, by column
    rehearsal: str = ""

    @classmethod
    def load(cls, file: Path) -> ComparisonData:
        """What `write_comparison` wrote. InputError, naming the file, if it is missing or no comparison."""
        try:
            return cls.model_validate(read_json(file))
        except (OSError, ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{file} is no comparison ({reason})", "Make it again with `ntf compare`") from None


def columns_of(evaluation: Evaluation) -> dict[str, Row]:
    """The rows of an evaluation by the column that each is in: subsets, means of families, means of all."""
    return {
        **{row.name: row for row in evaluation.subsets},
        **{f"{family} mean": averages["unweighted"] for family, averages in evaluation.families.items()},
        MEAN: evaluation.overall["unweighted"],
        WEIGHTED_MEAN: evaluation.overall["weighted"],
    }


def plain_data(comparison: Comparison) -> ComparisonData:
    """What the tables of `comparison` show."""
    first = next(iter(comparison.evaluations.values()))
    contestants = []
    for name, evaluation in comparison.evaluations.items():
        cost = comparison.costs[name]
        contestants.append(
            Contestant(
                name=name,
                title=evaluation.title,
                parameters=cost.parameters,
                images_per_second=cost.images_per_second,
                training_seconds=cost.training_seconds,
                memory_mib=None if cost.training_memory is None else cost.training_memory / 2**20,
                note=comparison.notes.get(name, ""),
            )
        )
    paired = [
        Paired(
            reference=comparison.reference or "",
            other=difference.other,
            measures={key: PairedMeasure(**dict(measure), p=difference.p[key]) for key, measure in difference.measures.items()},
        )
        for difference in comparison.differences
    ]
    return ComparisonData(
        data_digest=comparison.data_digest,
        detectors=contestants,
        columns=list(columns_of(first)),
        families={row.name: row.family for row in first.subsets},
        measures=in_order(MEASURES, first.leading),
        lower_is_better=list(LOWER_IS_BETTER),
        cells={
            name: {column: {key: row.measures[key] for key in MEASURES} for column, row in columns_of(evaluation).items()}
            for name, evaluation in comparison.evaluations.items()
        },
        paired=paired,
        chance={column: row.chance for column, row in columns_of(first).items()},
        rehearsal=comparison.rehearsal,
    )
