"""Results as tables, in Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ntf_model.files import write_text
from ntf_model.judging.bootstrap import Measure
from ntf_model.judging.evaluate import Evaluation, Row

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
SWAPPED = {"fpr": "fnr", "fnr": "fpr"}  # the paper counts real as positive


@dataclass(frozen=True)
class Table:
    """Cells as text. `groups` are a row above the header: (title, number of columns); `note` is a sentence under the table."""

    title: str
    header: list[str]
    rows: list[list[str]]
    groups: list[tuple[str, int]] = field(default_factory=list)
    note: str = ""

    def render(self, form: Form) -> str:
        """The table as text of this form, with a newline at its end."""
        return _RENDER[form](self)


def result_table(evaluation: Evaluation, *, intervals: bool = True, paper_convention: bool = False) -> Table:
    """All measures of one detector: a row for each subset, each family, all; in per cent, intervals in brackets."""
    rows = [_cells(row, intervals, paper_convention) for row in evaluation.subsets]
    for averages in [*evaluation.families.values(), evaluation.overall]:
        rows += [_cells(row, intervals, paper_convention) for row in averages.values()]
    note = (
        f"Per cent, with bootstrap 95 % intervals. {_convention(paper_convention)} ACC, FPR and FNR at 0.5; the validation threshold is "
        f"{evaluation.threshold:.3f}. Worst subset by AP: {evaluation.worst}."
    )
    header = ["subset", "family", "reals", "fakes", *LABELS.values()]
    return Table(f"{evaluation.title}: results by subset", header, rows, note=note)


def comparison_tables(evaluations: Mapping[str, Evaluation], *, paper_convention: bool = False) -> list[Table]:
    """One table for each family, laid out like the paper's Tables 2 to 4: a row for each detector, AP, ACC, FPR and FNR for each subset and
    on average (the unweighted mean). Raises KeyError if the detectors were evaluated on different subsets."""
    first = next(iter(evaluations.values()))
    tables = []
    for family in first.families:
        subsets = [row.name for row in first.subsets if row.family == family]
        columns = [LABELS[key] for key in PAPER_COLUMNS] * (len(subsets) + 1)
        rows = []
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


def _cells(row: Row, intervals: bool, paper_convention: bool) -> list[str]:
    return [row.name, row.family, str(row.n_real), str(row.n_fake), *(_value(row, key, paper_convention, intervals) for key in LABELS)]


def _value(row: Row, key: str, paper_convention: bool, interval: bool = False) -> str:
    return percent(row.measures[SWAPPED.get(key, key) if paper_convention else key], interval)


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
    return f"### {table.title}\n\n" + "\n".join(lines) + "\n" + (f"\n{table.note}\n" if table.note else "")


def _pipe(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _csv(table: Table) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if table.groups:
        writer.writerow([title for title, width in table.groups for _ in range(width)])
    writer.writerows([table.header, *table.rows])
    return stream.getvalue()


def _latex(table: Table) -> str:
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_tex(f'{table.title}. {table.note}'.strip())}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule"]
    if table.groups:
        lines.append(" & ".join(rf"\multicolumn{{{width}}}{{c}}{{{_tex(title)}}}" for title, width in table.groups) + r" \\")
    lines.append(" & ".join(map(_tex, table.header)) + r" \\")
    lines += [r"\midrule", *(" & ".join(map(_tex, row)) + r" \\" for row in table.rows), r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _tex(text: str) -> str:
    for plain, escaped in (("\\", r"\textbackslash "), ("&", r"\&"), ("%", r"\%"), ("_", r"\_"), ("#", r"\#"), ("–", "--")):
        text = text.replace(plain, escaped)
    return text


def _html(table: Table) -> str:
    lines = ["<table>", f"<caption>{html.escape(table.title)}</caption>", "<thead>"]
    if table.groups:
        lines.append("<tr>" + "".join(f'<th colspan="{width}">{html.escape(title)}</th>' for title, width in table.groups) + "</tr>")
    lines += ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header) + "</tr>", "</thead>", "<tbody>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows]
    lines += ["</tbody>"]
    if table.note:
        lines.append(f'<tfoot><tr><td colspan="{len(table.header)}">{html.escape(table.note)}</td></tr></tfoot>')
    return "\n".join([*lines, "</table>"]) + "\n"


_RENDER: dict[str, Callable[[Table], str]] = {"markdown": _markdown, "csv": _csv, "latex": _latex, "html": _html}
