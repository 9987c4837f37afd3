"""A comparison as tables: rows detectors, columns subsets and families, the best and second best of each column marked."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ntf_model.calibration import ERROR
from ntf_model.comparing.compare import Comparison, Cost
from ntf_model.comparing.comparison_data import LOWER_IS_BETTER, MEASURES, columns_of, plain_data
from ntf_model.comparing.standings import standings_table
from ntf_model.files import write_json, write_text
from ntf_model.judging.bootstrap import Measure
from ntf_model.judging.tables import LABELS, SUFFIXES, Cell, Figure, Form, Table, in_order
from ntf_model.runs import COMPARISON, COMPARISON_FILE

# Cells are marked with characters that no table has, which each form's markup then replaces
_BEST, _SECOND, _END = "\ue000", "\ue001", "\ue002"
_MARKUP: dict[Form, tuple[str, str, str, str]] = {  # before and after the best, before and after the second best
    "markdown": ("**", "**", "*", "*"),
    "csv": ("", "", "", ""),
    "latex": (r"\textbf{", "}", r"\underline{", "}"),
    "html": ("<strong>", "</strong>", "<u>", "</u>"),
}
CHANCE = "by chance"  # the row of random scores
COST_HEADER = ("parameters (M)", "images/s", "training (s)", "peak memory (GiB)")
STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem; color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: 0 0 2.5rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
tfoot td { text-align: left; white-space: normal; color: #555; border: 0; }
.scroll { overflow-x: auto; }
"""


def all_tables(comparison: Comparison, *, intervals: bool = True) -> list[Table]:
    """Overview, a table for each measure, differences to the reference, costs, calibration, standings. Cells of the best carry marks: use
    `render`."""
    tables = [overview_table(comparison), *(measure_table(comparison, key, intervals=intervals) for key in _measures(comparison))]
    if comparison.differences:
        tables.append(difference_table(comparison))
    tables += [cost_table(comparison), reliability_overview(comparison)]
    if comparison.standings:
        titles = dict(zip(comparison.evaluations, _titles(comparison), strict=True))
        tables.append(standings_table(comparison.standings, _measures(comparison)[0], titles, comparison.rehearsal))
    return tables


def overview_table(comparison: Comparison) -> Table:
    """The mean over subsets of each measure, and what each detector costs."""
    means = [evaluation.overall["unweighted"].measures for evaluation in comparison.evaluations.values()]
    keys = _measures(comparison)
    columns = [_marked([Figure(row[key]) for row in means], key in LOWER_IS_BETTER) for key in keys]
    costs = [_cost_cells(cost) for cost in comparison.costs.values()]
    rows: list[list[Cell]] = [[title, *cells, *cost] for title, *cells, cost in zip(_titles(comparison), *columns, costs, strict=True)]
    first = next(iter(comparison.evaluations.values())).overall["unweighted"]
    rows.append([CHANCE, *(Figure(Measure(value=first.chance)) if key == "ap" else "–" for key in keys), *("–" for _ in COST_HEADER)])
    header = ["detector", *(LABELS[key] for key in keys), *COST_HEADER]
    note = "Means over subsets. " + _note(comparison, "ap", False)
    return Table("All subsets", header, rows, note=note, rehearsal=comparison.rehearsal)


def measure_table(comparison: Comparison, key: str, *, intervals: bool = True) -> Table:
    """One measure: a column for each subset, the mean of each family, the mean of all (unweighted and weighted by fakes)."""
    by_detector = [columns_of(evaluation) for evaluation in comparison.evaluations.values()]
    header = ["detector", *by_detector[0]]
    columns = [[Figure(rows[column].measures[key], intervals) for rows in by_detector] for column in by_detector[0]]
    marked = [_marked(column, key in LOWER_IS_BETTER) for column in columns]
    rows: list[list[Cell]] = [[title, *values] for title, values in zip(_titles(comparison), zip(*marked, strict=True), strict=True)]
    if key == "ap":
        rows.append([CHANCE, *(Figure(Measure(value=row.chance)) for row in by_detector[0].values())])
    note = _note(comparison, key, intervals)
    return Table(f"{LABELS[key]} by subset", header, rows, note=note, rehearsal=comparison.rehearsal)


def difference_table(comparison: Comparison) -> Table:
    """The reference minus each other detector, in percentage points, with paired bootstrap intervals."""
    keys = [key for key in _measures(comparison) if key not in LOWER_IS_BETTER]
    assert comparison.reference is not None
    reference = comparison.evaluations[comparison.reference].title
    titles = dict(zip(comparison.evaluations, _titles(comparison), strict=True))
    rows: list[list[Cell]] = []
    for difference in comparison.differences:
        rows.append([titles[difference.other], *(Figure(difference.measures[key], True, difference.p[key]) for key in keys)])
    note = (
        f"Percentage points, mean over subsets, {reference} minus the other, with 95 % intervals from paired bootstrap replicates; "
        "p is two-sided and not corrected for the number of comparisons."
    )
    return Table(
        f"{reference} minus each detector", ["detector", *(LABELS[key] for key in keys)], rows, note=note, rehearsal=comparison.rehearsal
    )


def reliability_overview(comparison: Comparison) -> Table:
    """Calibration, the errors at thresholds by wish, and the band of every detector; dashes where one has no calibration."""
    rows: list[list[Cell]] = []
    wishes = sorted({wish.wished for evaluation in comparison.evaluations.values() if (r := evaluation.reliability) for wish in r.wishes})
    for title, evaluation in zip(_titles(comparison), comparison.evaluations.values(), strict=True):
        measured = evaluation.reliability
        if measured is None:
            rows.append([title, *["–"] * (7 + len(wishes))])
            continue
        figures = [measured.temperature, measured.brier_scores, measured.brier, measured.ece_scores, measured.ece]
        by_wish = {wish.wished: wish.fpr for wish in measured.wishes}
        unknown = Measure(value=None)
        shares = [*(by_wish.get(wish, unknown) for wish in wishes), measured.band.real_as_fake, measured.band.fake_as_real]
        rows.append([title, *(f"{figure:.4f}" for figure in figures), *(Figure(share, True) for share in shares)])
    header = ["detector", "temperature", "Brier, scores", "Brier, calibrated", "ECE, scores", "ECE, calibrated"]
    header += [*(f"FPR, wished {100 * wish:g} %" for wish in wishes), "band: reals called fake", "band: fakes called real"]
    note = (
        "Temperatures and thresholds are from validation, all else from test. FPR and the band "
        f"(stated error {100 * ERROR:g} %) in per cent, with Wilson's 95 % intervals; a dash: no calibration, or too few validation reals."
    )
    return Table("Calibration and thresholds", header, rows, note=note, rehearsal=comparison.rehearsal)


def cost_table(comparison: Comparison) -> Table:
    """Parameters, pictures a second in testing, training time and peak memory."""
    rows: list[list[Cell]] = [
        [title, *_cost_cells(cost)] for title, cost in zip(_titles(comparison), comparison.costs.values(), strict=True)
    ]
    note = (
        "Images a second: preparing and scoring, without decoding, on the machine of this comparison. Peak memory: in training, of the "
        "GPU, or of the whole process without one. A dash: not known."
    )
    return Table("Cost", ["detector", *COST_HEADER], rows, note=note, rehearsal=comparison.rehearsal)


def render(tables: Sequence[Table], form: Form) -> str:
    """All tables as one text of this form, marks included; HTML is a whole page that needs nothing else."""
    texts = [_mark_up(table.render(form), form) for table in tables]
    if form != "html":
        return "\n".join(texts)
    body = "\n".join(f'<div class="scroll">{text}</div>' for text in texts)
    title = html.escape("Detectors compared")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body></html>\n'


def write_comparison(comparison: Comparison, folder: Path, *, intervals: bool = True) -> list[Path]:
    """`comparison.json` and the tables as HTML, Markdown, LaTeX and CSV in `folder`; the files, in that order.

    A CSV file holds one table: `comparison.csv` the first, over all subsets, and `comparison-ap-by-subset.csv` and so on the others.
    """
    tables = all_tables(comparison, intervals=intervals)
    files = [folder / COMPARISON_FILE]
    write_json(files[0], plain_data(comparison).model_dump())
    for form in ("html", "markdown", "latex"):
        files.append(folder / f"{COMPARISON}{SUFFIXES[form]}")
        write_text(files[-1], render(tables, form))
    for number, table in enumerate(tables):
        title = re.sub("[^a-z0-9]+", "-", table.title.lower()).strip("-")
        files.append(folder / (f"{COMPARISON}-{title}.csv" if number else f"{COMPARISON}.csv"))
        write_text(files[-1], render([table], "csv"))
    return files


def _titles(comparison: Comparison) -> list[str]:
    """The detectors' titles; a star where there is a note, the name beside it where two have the same title."""
    titles = [evaluation.title for evaluation in comparison.evaluations.values()]
    return [
        (f"{title} ({name})" if titles.count(title) > 1 else title) + ("*" if comparison.notes.get(name) else "")
        for name, title in zip(comparison.evaluations, titles, strict=True)
    ]


def _note(comparison: Comparison, key: str, intervals: bool) -> str:
    intervals_said = ", with 95 % Wilson intervals from the bootstrap's variance" if intervals else ""
    direction = "; fake is positive, lower is better" if key in LOWER_IS_BETTER else ""
    said = [f"Per cent{intervals_said}{direction}.", "Best bold, second best marked." if len(comparison.evaluations) > 1 else ""]
    titles = dict(zip(comparison.evaluations, _titles(comparison), strict=True))
    said += [f"{titles[name]}: {note}." for name, note in comparison.notes.items() if note]
    return " ".join(part for part in said if part)


def _measures(comparison: Comparison) -> list[str]:
    """The measures in the order of the tables: the one to look at first is AUROC where the classes are small."""
    return in_order(MEASURES, next(iter(comparison.evaluations.values())).leading)


def _marked(column: list[Figure], lower: bool) -> list[Figure]:
    """The cells of a column, the best and the second best value marked (all of those that are equal to two decimals)."""
    values = [None if cell.measure.value is None else round(100 * cell.measure.value, 2) for cell in column]
    ranked = sorted({value for value in values if value is not None}, reverse=not lower)
    if len(column) < 2 or len(ranked) < 2:
        return column
    marks = {ranked[0]: _BEST, ranked[1]: _SECOND}
    return [replace(cell, before=marks[value], after=_END) if value in marks else cell for cell, value in zip(column, values, strict=True)]


def _mark_up(text: str, form: Form) -> str:
    best, best_end, second, second_end = _MARKUP[form]
    parts = text.split(_END)
    for place, part in enumerate(parts[:-1]):
        is_best = _BEST in part
        parts[place] = part.replace(_BEST, best).replace(_SECOND, second) + (best_end if is_best else second_end)
    return "".join(parts)


def _cost_cells(cost: Cost) -> list[Cell]:
    values = (
        (cost.parameters, lambda value: f"{value / 1e6:.2f}"),
        (cost.images_per_second, lambda value: f"{value:.1f}"),
        (cost.training_seconds, lambda value: f"{value:.0f}"),
        (cost.training_memory, lambda value: f"{value / 2**30:.2f}"),
    )
    return ["–" if value is None else form(value) for value, form in values]
