"""Scores that another program wrote: a CSV file of picture ids and P(fake)."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from ntf_model.errors import InputError, counted

ID_COLUMNS, SCORE_COLUMNS = ("id", "image", "image id", "image_id"), ("score", "p_fake", "probability")


def read_scores(file: Path | str, ids: Sequence[str], known: Collection[str] | None = None) -> np.ndarray:
    """The scores of the pictures `ids` from a CSV file (picture id, P(fake)), float64 `[N]`, in the order of `ids`.

    A header is read if there is one (`id,score` in any order, other columns left alone); otherwise the first two columns count. The file
    may have scores of further pictures, such as those of validation; `known`, if given, are the ids that it may name. Raises InputError,
    naming the line, for a score that is no probability or an id that comes twice, and naming the picture for an id that is missing or
    not known.
    """
    table = read_score_table(Path(file), ids, known)
    return np.array([table[name] for name in ids])


def read_score_table(file: Path, ids: Sequence[str], known: Collection[str] | None = None) -> dict[str, float]:
    """As `read_scores`, but every score of the file, by picture id."""
    table = _parse(file)
    missing = [name for name in ids if name not in table]
    if missing:
        raise InputError(f"{file} has no score for {len(missing)} of the {len(ids)} pictures, such as {missing[0]!r}", "Score all of them")
    allowed = None if known is None else {*ids, *known}
    strangers = [] if allowed is None else [name for name in table if name not in allowed]
    if strangers:
        raise InputError(
            f"{file} has a score for {counted(len(strangers), 'id')} that no picture of the data has, such as {strangers[0]!r}",
            "Check the ids",
        )
    return table


def _parse(file: Path) -> dict[str, float]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = [(number, row) for number, row in enumerate(csv.reader(stream), 1) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the scores {file} ({error})", "Give a CSV file with the columns id and score") from None
    id_column, score_column = 0, 1
    if rows:
        header = [cell.strip().lower() for cell in rows[0][1]]
        id_at, score_at = (next((header.index(name) for name in names if name in header), None) for names in (ID_COLUMNS, SCORE_COLUMNS))
        if id_at is not None and score_at is not None:
            id_column, score_column, rows = id_at, score_at, rows[1:]
    known: dict[str, float] = {}
    for number, row in rows:
        try:
            name, score = row[id_column].strip(), float(row[score_column])
        except (IndexError, ValueError):
            raise InputError(
                f"{file}, line {number}: {','.join(row)!r} is no picture id and score", "Write one picture a line: id,score"
            ) from None
        if not 0 <= score <= 1:
            raise InputError(
                f"{file}, line {number}: the score {score} is not between 0 and 1", "Give P(fake), such as the sigmoid of a logit"
            )
        if name in known:
            raise InputError(f"{file}, line {number}: {name!r} comes a second time", "Keep one score for each picture")
        known[name] = score
    return known
