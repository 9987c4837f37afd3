"""Scores that another program wrote: a CSV file of picture ids and P(fake)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from foreign.lists import read_rows
from foreign.text import visible
from ntf_model.data.reading.split_names import split_of
from ntf_model.errors import InputError, counted

ID_COLUMNS, SCORE_COLUMNS = ("id", "image", "image id", "image_id"), ("score", "p_fake", "probability")
HEADER_FIX = "Write one picture a line, id,score, or name the columns id and score in the first line"
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?$")  # the decimal comma of a file whose separator is another


def read_scores(file: Path | str, ids: Sequence[str], known: Collection[str] | None = None) -> np.ndarray:
    """The scores of the pictures `ids` from a CSV file (picture id, P(fake)), float64 `[N]`, in the order of `ids`.

    The file is UTF-8, with commas, semicolons or tabs. A header with the columns `id` and `score` may have others beside them; without one
    there are two columns. Ids of pictures in the folder of a split may leave out that folder: they are then those of `ids` alone. The file
    may have scores of further pictures, such as those of validation; `known`, if given, are the ids that it may name. Raises InputError,
    naming the line, for a score that is no probability or an id that comes twice, and naming the picture for an id that is missing or
    not known.
    """
    table = read_score_table(Path(file), ids, known)
    return np.array([table[name] for name in ids])


def read_score_table(file: Path, ids: Sequence[str], known: Collection[str] | None = None) -> dict[str, float]:
    """As `read_scores`, but every score of the file, by picture id."""
    table = _parse(file)
    by_name = {unicodedata.normalize("NFC", name): name for name in [*(known or ()), *ids]}
    if not any(name in by_name for name in table):
        by_name = _without_split(ids)
    table = {by_name.get(name, name): score for name, score in table.items()}
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


def _without_split(ids: Sequence[str]) -> dict[str, str]:
    """Ids by what remains of them without the folder of their split; nothing where that is not certain."""
    short: dict[str, str] = {}
    for name in ids:
        parts = unicodedata.normalize("NFC", name).split("/")
        place = next((place for place, part in enumerate(parts[:-1]) if split_of(part)), None)
        if place is None or short.setdefault("/".join(parts[:place] + parts[place + 1 :]), name) != name:
            return {}
    return short


def _parse(file: Path) -> dict[str, float]:
    scores: dict[str, float] = {}
    id_column, score_column, width = 0, 1, 2
    for number, (line, cells) in enumerate(read_rows(file, "the scores")):
        if number == 0:
            header = [cell.casefold() for cell in cells]
            scored = [cell for cell in header if cell in SCORE_COLUMNS]
            twice = [name for name in ID_COLUMNS if header.count(name) > 1]
            if len(scored) > 1 or (scored and twice):
                columns = ", ".join(scored if len(scored) > 1 else twice * 2)
                raise InputError(f"{file}, line {line}: it is not certain which of the columns {columns} is meant", "Keep one of them")
            at = [next((header.index(name) for name in names if name in header), None) for names in (ID_COLUMNS, SCORE_COLUMNS)]
            if at[0] is not None and at[1] is not None:
                id_column, score_column, width = at[0], at[1], len(cells)
                continue
        if len(cells) != width:
            raise InputError(f"{file}, line {line}: it has {counted(len(cells), 'column')}, not {width}", HEADER_FIX)
        name, text = cells[id_column], cells[score_column]
        if not name or not (_NUMBER.match(text) or text.casefold() in ("nan", "inf", "-inf")):
            raise InputError(f"{file}, line {line}: {visible(', '.join(cells))!r} is no picture id and score", HEADER_FIX)
        score = float(text.replace(",", "."))
        if not 0 <= score <= 1:
            raise InputError(
                f"{file}, line {line}: the score {score} is not between 0 and 1", "Give P(fake), such as the sigmoid of a logit"
            )
        if name in scores:
            raise InputError(f"{file}, line {line}: {visible(name)!r} comes a second time", "Keep one score for each picture")
        scores[name] = score
    if not scores:
        raise InputError(f"{file} has no scores", HEADER_FIX)
    return scores
