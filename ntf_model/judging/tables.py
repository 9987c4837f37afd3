"""Results as tables, in Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from foreign.text import as_csv_cell, markdown_text
from ntf_model.files import write_text
from ntf_model.judging.bootstrap import Measure
from ntf_model.judging.evaluate import Evaluation, Row
from ntf_model.judging.reliability import Reliability

Form = Literal["markdown", "csv", "latex", "html"]
SUFFIXES: dict[Form, str] = {"markdown": ".md", "csv": ".csv", "latex": ".tex", "html": ".html"}
LABELS = {
    "ap": "AP",
    "acc": "ACC",
    "fpr": "FPR",
    "fnr": "FNR",
    "acc_fixed": "ACC (validation threshold)",
    "auroc": "AUROC",
    "tpr_at_fpr_1": "TPR@1%FPR",
    "tpr_at_fpr_5": "TPR@5%FPR",
}
PAPER_COLUMNS = ("ap", "acc", "fpr", "fnr")
CHANCE = "Random scores have the AP that is given as chance, and an AUROC of 50."
SWAPPED = {"fpr": "fnr", "fnr": "fpr"}  # the paper counts real as positive


@dataclass(frozen=True)
class Figure:
    """A measured value as a cell: in per cent, with its interval and its p if wished, and a `remark`; `before` and `after` mark it in its
    column, and are no text of anybody's."""

    measure: Measure
    interval: bool = False
    p: float | None = None
    before: str = ""
    after: str = ""
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.before}{self.text}{self.after}"

    @property
    def text(self) -> str:
        """The cell without its marks."""
        return f"{percent(self.measure, self.interval)}{'' if self.p is None else f' (p {self.p:.3f})'}{self.remark}"


Cell = str | Figure


@dataclass(frozen=True)
class Table:
    """Cells as text or as figures. `groups` are a row above the header: (title, number of columns); `note` is a sentence under the table.
    `rehearsal` says that the figures are of detectors that were only tried out."""

    title: str
    header: list[str]
    rows: list[list[Cell]]
    groups: list[tuple[str, int]] = field(default_factory=list)
    note: str = ""
    rehearsal: str = ""

    def render(self, form: Form) -> str:
        """The table as text of this form, with a newline at its end. CSV has numbers only: intervals in columns of their own, nothing where
        there is no value, and a column that marks a rehearsal."""
        if form == "csv" or not self.rehearsal:
            return _RENDER[form](self)
        note = f"Rehearsal, {self.rehearsal}: these figures say nothing about the detectors. {self.note}".strip()
        return _RENDER[form](replace(self, title=f"{self.title} (rehearsal)", note=note))


def result_table(evaluation: Evaluation, *, intervals: bool = True, paper_convention: bool = False) -> Table:
    """All measures of one detector: a row for each subset, each family, held-out and trained-on subsets apart, all; in per cent, intervals
    in brackets. The measure to look at first is the first, and the AP of random scores stands beside AP."""
    keys = in_order(LABELS, evaluation.leading)
    rows = [_cells(row, keys, intervals, paper_convention) for row in evaluation.subsets]
    for averages in [*evaluation.families.values(), *evaluation.exposure.values(), evaluation.overall]:
        rows += [_cells(row, keys, intervals, paper_convention) for row in averages.values()]
    left_out = [row.name for row in evaluation.subsets if not row.is_measured]
    said = [
        f"Per cent, with 95 % Wilson intervals from the bootstrap's variance. {_convention(paper_convention)}",
        f"ACC, FPR and FNR at 0.5; the validation threshold is {threshold_said(evaluation)}.",
        "" if evaluation.trained_on is None else f"Trained on: {', '.join(evaluation.trained_on) or 'none of these subsets'}.",
        CHANCE,
        f"Worst subset by {LABELS[evaluation.leading]}: {evaluation.worst}." if evaluation.worst else "",
        f"Without reals, and in no mean: {', '.join(left_out)}." if left_out else "",
    ]
    header = ["subset", "family", "reals", "fakes", *(name for key in keys for name in _named(key))]
    return Table(f"{evaluation.title}: results by subset", header, rows, note=" ".join(filter(None, said)), rehearsal=evaluation.rehearsal)


def threshold_said(evaluation: Evaluation) -> str:
    """The threshold, and the wished FPR that it is for."""
    wished = "" if evaluation.fpr is None else f", for a wished FPR of {100 * evaluation.fpr:g} %"
    return f"{evaluation.threshold:.3f}{wished}"


def reliability_table(measured: Reliability, title: str, *, rehearsal: str = "") -> Table:
    """Calibration before and after, thresholds by wish, and the band: a row for each figure."""
    band = measured.band
    rows: list[list[Cell]] = [
        ["Brier score of the scores", "", f"{measured.brier_scores:.4f}", ""],
        ["Brier score, calibrated", f"temperature {measured.temperature:.3f}", f"{measured.brier:.4f}", ""],
        ["ECE of the scores", "", f"{measured.ece_scores:.4f}", ""],
        ["ECE, calibrated", f"temperature {measured.temperature:.3f}", f"{measured.ece:.4f}", ""],
    ]
    for wish in measured.wishes:
        said = "too few validation reals" if wish.threshold is None else f"threshold {wish.threshold:.4f}"
        name = f"a wished FPR of {100 * wish.wished:g} %"
        rows += [[f"{name}: FPR", said, Figure(wish.fpr, True), "%"], [f"{name}: FNR", said, Figure(wish.fnr, True), "%"]]
    where = f"unsure from {band.low:.4f} to {band.high:.4f}"
    for name, share in (
        ("reals called fake", band.real_as_fake),
        ("fakes called real", band.fake_as_real),
        ("unsure reals", band.unsure_reals),
        ("unsure fakes", band.unsure_fakes),
    ):
        rows.append([f"band, stated error {100 * band.error:g} %: {name}", where, Figure(share, True), "%"])
    note = (
        f"On {measured.reals} test reals and {measured.fakes} fakes, both classes weighing alike in Brier score and ECE "
        f"({len(measured.bins)} bins). Temperature, thresholds and band are from {measured.validation_reals} validation reals and "
        f"{measured.validation_fakes} fakes. Shares in per cent, with Wilson's 95 % intervals. FPR: the share of reals called fake."
    )
    return Table(f"{title}: calibration and thresholds", ["figure", "with", "value", "unit"], rows, note=note, rehearsal=rehearsal)


def in_order(keys: Iterable[str], leading: str) -> list[str]:
    """Measures with the leading one first."""
    return sorted(keys, key=lambda key: key != leading)


def comparison_tables(evaluations: Mapping[str, Evaluation], *, paper_convention: bool = False) -> list[Table]:
    """One table for each family, laid out like the paper's Tables 2 to 4: a row for each detector, AP, ACC, FPR and FNR for each subset and
    on average (the unweighted mean). Raises KeyError if the detectors were evaluated on different subsets."""
    first = next(iter(evaluations.values()))
    tables = []
    for family in first.families:
        subsets = [row.name for row in first.subsets if row.family == family]
        columns = [LABELS[key] for key in PAPER_COLUMNS] * (len(subsets) + 1)
        rows: list[list[Cell]] = []
        for name, evaluation in evaluations.items():
            cells = [evaluation.row(subset) for subset in subsets] + [evaluation.families[family]["unweighted"]]
            rows.append([name, *(_value(row, key, paper_convention) for row in cells for key in PAPER_COLUMNS)])
        groups = [("", 1), *((subset, len(PAPER_COLUMNS)) for subset in [*subsets, "Average"])]
        tables.append(Table(f"Results on {family}", ["Method", *columns], rows, groups, f"Per cent. {_convention(paper_convention)}"))
    return tables


def write_table(table: Table, stem: Path) -> list[Path]:
    """Writes a table in every form, Markdown first, to `stem` with the suffix of the form. Returns the files."""
    files = []
    for form, suffix in SUFFIXES.items():
        files.append(stem.with_suffix(suffix))
        write_text(files[-1], table.render(form))
    return files


def percent(measure: Measure, interval: bool = False) -> str:
    """`97.31`, with its interval `97.31 [95.02, 98.90]`, or a dash where it is not defined."""
    if measure.value is None:
        return "–"
    text = f"{100 * measure.value:.2f}"
    if interval and measure.low is not None and measure.high is not None:
        text += f" [{100 * measure.low:.2f}, {100 * measure.high:.2f}]"
    return text


def _named(key: str) -> list[str]:
    return [LABELS[key], "AP by chance"] if key == "ap" else [LABELS[key]]


def _cells(row: Row, keys: Sequence[str], intervals: bool, paper_convention: bool) -> list[Cell]:
    cells: list[Cell] = [row.name, row.family, str(row.n_real), str(row.n_fake)]
    for key in keys:
        cells.append(_value(row, key, paper_convention, intervals))
        cells += [Figure(Measure(value=row.chance))] if key == "ap" else []
    return cells


def _value(row: Row, key: str, paper_convention: bool, interval: bool = False) -> Figure:
    return Figure(row.measures[SWAPPED.get(key, key) if paper_convention else key], interval)


def _convention(paper: bool) -> str:
    return (
        "Real is positive, as in the paper: FPR is the share of fakes missed."
        if paper
        else "Fake is positive: FPR is the share of reals called fake."
    )


def _markdown(table: Table) -> str:
    header = list(table.header)
    place = 0
    for title, width in table.groups:  # Markdown has no spanning cells: the group's title goes before each of its columns
        header[place : place + width] = [f"{title} {name}".strip() for name in header[place : place + width]]
        place += width
    lines = [_pipe(header), _pipe(["---", *["---:"] * (len(header) - 1)]), *(_pipe(row) for row in table.rows)]
    return f"### {markdown_text(table.title)}\n\n" + "\n".join(lines) + "\n" + (f"\n{table.note}\n" if table.note else "")


def _pipe(cells: Sequence[Cell]) -> str:
    shown = (f"{cell.before}{markdown_text(cell.text)}{cell.after}" if isinstance(cell, Figure) else markdown_text(cell) for cell in cells)
    return "| " + " | ".join(shown) + " |"


def _csv(table: Table) -> str:
    titles = [title for title, width in table.groups for _ in range(width)] or [""] * len(table.header)
    columns: list[list[str]] = []
    for place, title in enumerate(titles):
        name, cells = f"{title} {table.header[place]}".strip(), [row[place] for row in table.rows]
        figures = [cell for cell in cells if isinstance(cell, Figure)]
        columns.append([name, *(_number(cell) for cell in cells)])
        if any(figure.interval for figure in figures):
            columns.append([f"{name} low", *(_number(cell, "low") for cell in cells)])
            columns.append([f"{name} high", *(_number(cell, "high") for cell in cells)])
        if any(figure.p is not None for figure in figures):
            columns.append([f"{name} p", *(_number(cell, "p") for cell in cells)])
    if table.rehearsal:
        columns.append(["rehearsal", *(table.rehearsal for _ in table.rows)])
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([as_csv_cell(value) for value in row] for row in zip(*columns, strict=True))
    return stream.getvalue()


def _number(cell: Cell, part: str = "value") -> str:
    """A part of a figure, in per cent but for p; other cells as they are, and nothing for what is not known."""
    if isinstance(cell, str):
        return ("" if cell == "–" else cell) if part == "value" else ""
    if part == "p":
        return "" if cell.p is None else f"{cell.p:.4f}"
    value = getattr(cell.measure, part) if part == "value" or cell.interval else None
    return "" if value is None else f"{100 * value:.4f}"


def _latex(table: Table) -> str:
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_tex(f'{table.title}. {table.note}'.strip())}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule"]
    if table.groups:
        lines.append(" & ".join(rf"\multicolumn{{{width}}}{{c}}{{{_tex(title)}}}" for title, width in table.groups) + r" \\")
    lines.append(" & ".join(map(_tex, table.header)) + r" \\")
    lines += [
        r"\midrule",
        *(" & ".join(_tex(str(cell)) for cell in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    **{letter: f"\\{letter}" for letter in "&%_#${}"},
}


def _html(table: Table) -> str:
    lines = ["<table>", f"<caption>{html.escape(table.title)}</caption>", "<thead>"]
    if table.groups:
        lines.append("<tr>" + "".join(f'<th colspan="{width}">{html.escape(title)}</th>' for title, width in table.groups) + "</tr>")
    lines += ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header) + "</tr>", "</thead>", "<tbody>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in table.rows]
    lines += ["</tbody>"]
    if table.note:
        lines.append(f'<tfoot><tr><td colspan="{len(table.header)}">{html.escape(table.note)}</td></tr></tfoot>')
    return "\n".join([*lines, "</table>"]) + "\n"


_RENDER: dict[str, Callable[[Table], str]] = {"markdown": _markdown, "csv": _csv, "latex": _latex, "html": _html}
