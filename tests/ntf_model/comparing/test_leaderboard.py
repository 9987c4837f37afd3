"""The score matrix, and every figure again from it: to the last digit, apart by what was trained on, safe from what strangers wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.judging import board_facts, board_tables, write_boards
from foreign import tables
from ntf_model.calibration import fit_calibration
from ntf_model.comparing import matrix as matrices
from ntf_model.comparing.compare import compare
from ntf_model.comparing.comparison_tables import all_tables, render
from ntf_model.comparing.leaderboard import read_leaderboard, subset_table
from ntf_model.comparing.matrix import COLUMNS, FACTS, evaluations_of, read_matrix, write_matrix
from ntf_model.data.data import DetectionData, Item
from ntf_model.detector import Detector
from ntf_model.errors import InputError
from ntf_model.judging.evaluate import HELD_OUT, TRAINED_ON, evaluate

SUBSETS = {"GAN": "faces", "DM": "faces", "Swap": ("faces", "scenes")}
FAMILIES = {"GAN": "GAN", "DM": "DM", "Swap": "multi-step"}


class Pictures:
    """Pictures of one row of pixels, all of whose values follow from the seed."""

    def __init__(self, labels: Sequence[int], subsets: Sequence[str], prefix: str):
        self.labels, self.subsets, self.prefix = labels, subsets, prefix

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Item:
        rng = np.random.default_rng([row, len(self.prefix)])
        pixels = rng.integers(0, 160, (1, 4, 3)) + 60 * self.labels[row]
        return Item(pixels.astype(np.uint8), self.labels[row], self.subsets[row], f"{self.prefix}/{row}")


def split(prefix: str, count: int = 30) -> DetectionData:
    labels = [0] * (2 * count) + [1] * (3 * count)
    subsets = [name for name in ("faces", "scenes", "GAN", "DM", "Swap") for _ in range(count)]
    names = np.array([f"{prefix}/{row}" for row in range(len(labels))])
    shas = np.array([f"{row:064x}" for row in range(len(labels))])
    return DetectionData(
        Pictures(labels, subsets, prefix), np.array(labels), np.array(subsets), SUBSETS, FAMILIES, f"digest-{prefix}", names, sha256s=shas
    )


class Bright(Detector):
    """Calls bright pictures fake; `power` says how sure of it it is."""

    name, title = "bright", "Brightness"
    train = save_pretrained = from_pretrained = None

    def __init__(self, power: float, pixel: int = 0, title: str = "Brightness"):
        self.power, self.pixel, self.title = power, pixel, title

    def score(self, images: Sequence[np.ndarray]) -> np.ndarray:
        values = np.array([image[0, self.pixel].astype(float).mean() for image in images])
        return 1 / (1 + np.exp(-self.power * (values - 110) / 20))


TEST, VALIDATION = split("test"), split("validation", 25)
TRAINED = {"ours": ["GAN"], "other": ["GAN", "DM"]}


def detectors() -> dict[str, Detector]:
    return {"ours": Bright(1.0), "other": Bright(3.0, 2, "Another <b>|one</b>")}


def compared(folder: Path, fpr: float | None = None, trained: dict[str, list[str] | None] | None = None) -> Any:
    comparison = compare(detectors(), TEST, VALIDATION, trained_on=trained or TRAINED, fpr=fpr, bootstrap=60)
    write_matrix(folder / "scores.parquet", TEST, VALIDATION, comparison.evaluations, kinds={"ours": "bright"}, notes=comparison.notes)
    return comparison


@pytest.mark.parametrize("fpr", [None, 0.05])
def test_every_figure_again_to_the_last_digit(tmp_path: Path, fpr: float | None) -> None:
    comparison = compared(tmp_path, fpr)
    (board,) = read_leaderboard(tmp_path).boards
    assert board.comparison.evaluations == comparison.evaluations  # every figure, interval, threshold, bin and score
    assert board.comparison.differences == comparison.differences
    assert board.comparison.standings == comparison.standings
    assert board.comparison.evaluations["ours"].threshold == comparison.evaluations["ours"].threshold
    again, before = (
        [table for table in all_tables(one) if table.title not in ("Cost", "All subsets")] for one in (board.comparison, comparison)
    )
    assert render(again, "markdown") == render(before, "markdown")
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.column_names == list(COLUMNS)
    assert table.num_rows == 2 * (len(TEST) + len(VALIDATION))
    row = table.slice(70, 1).to_pylist()[0]
    expected = {"image_id": "test/70", "sha256": f"{70:064x}", "label": 1, "subset": "GAN", "delivery": None, "split": "test"}
    assert row == {**expected, "detector": "bright", "run": "ours", "score": comparison.evaluations["ours"].scores.score[70]}


@pytest.mark.parametrize("has_validation", [True, False])
def test_one_detector_again(tmp_path: Path, has_validation: bool) -> None:
    detector = Bright(2.0)
    detector.threshold, detector.calibration = 0.3, fit_calibration(VALIDATION.labels, detector.score(pictures(VALIDATION)))
    options: dict[str, Any] = {"fpr": 0.05, "trained_on": ["DM"], "rehearsal": "few pictures", "bootstrap": 40}
    evaluation = evaluate(detector, TEST, VALIDATION if has_validation else None, **options)
    assert evaluation.threshold == detector.calibration.threshold_at(0.05)
    file = write_matrix(tmp_path / "m.parquet", TEST, VALIDATION if has_validation else None, {"mine": evaluation})
    assert evaluations_of(read_matrix(file)) == {"mine": evaluation}
    assert set(pq.read_table(file, columns=["split"]).column("split").to_pylist()) == (
        {"test", "validation"} if has_validation else {"test"}
    )


def pictures(data: DetectionData) -> list[np.ndarray]:
    return [data.dataset[row].image for row in range(len(data))]


def test_held_out_generators_stand_apart_from_those_trained_on_by_anyone(tmp_path: Path) -> None:
    compared(tmp_path)
    (board,) = read_leaderboard(tmp_path).boards
    ours = board.comparison.evaluations["ours"]
    assert (ours.trained_on, ours.seen) == (["GAN"], ["GAN", "DM"])
    assert list(ours.exposure) == [HELD_OUT, TRAINED_ON]
    assert ours.exposure[HELD_OUT]["unweighted"].measures["ap"].value == ours.row("Swap").measures["ap"].value
    mean = np.mean([ours.row(name).measures["ap"].value for name in ("GAN", "DM")])
    assert ours.exposure[TRAINED_ON]["unweighted"].measures["ap"].value == pytest.approx(mean, abs=1e-15)
    standings = {standing.name: standing for standing in board.comparison.standings}
    group = standings["ours"].groups[TRAINED_ON]
    assert group.worst is not None
    assert group.worst.measures[ours.leading].value == min(ours.row(name).measures[ours.leading].value or 0 for name in ("GAN", "DM"))
    assert sorted(standing.rank or 0 for standing in standings.values()) == [1, 2]
    assert all((standing.rank_low or 0) <= (standing.rank or 0) <= (standing.rank_high or 0) for standing in standings.values())
    text = "".join(board_tables(board, per_generator=True))
    assert "| Swap | multi-step | held-out |" in text
    assert text.index("| Swap |") < text.index("| GAN | GAN | trained-on |")
    gan = next(line for line in text.splitlines() if line.startswith("| GAN |"))
    assert gan.count(" *") == 2
    dm = next(line for line in text.splitlines() if line.startswith("| DM |"))
    assert dm.count(" *") == 1
    assert "<b>" not in text, "a name is no HTML"
    assert "\\|one" in text


def test_what_nobody_knows_is_said(tmp_path: Path) -> None:
    compared(tmp_path, trained={"ours": None, "other": ["DM"]})
    (board,) = read_leaderboard(tmp_path).boards
    assert "Not known what was trained on: Brightness." in board_tables(board)[1]
    compared(tmp_path / "none", trained={"ours": None, "other": None})
    (unknown,) = read_leaderboard(tmp_path / "none").boards
    assert list(unknown.comparison.standings[0].groups) == ["all"]


def test_matrices_of_one_split_stand_together_and_others_apart(tmp_path: Path) -> None:
    compared(tmp_path / "first")
    compared(tmp_path / "again")
    elsewhere = replace(split("else"), digest="other")
    evaluation = evaluate(Bright(0.5), elsewhere, None, trained_on=[], bootstrap=20)
    write_matrix(tmp_path / "else" / "x.parquet", elsewhere, None, {"third": evaluation})
    third = evaluate(Bright(0.5, 3), TEST, VALIDATION, trained_on=["Swap"], bootstrap=60)
    write_matrix(tmp_path / "third" / "x.parquet", TEST, VALIDATION, {"ours": third})
    pq.write_table(pa.table({"a": [1]}), tmp_path / "stranger.parquet")
    board = read_leaderboard(tmp_path)
    by_digest = {one.data.digest: one for one in board.boards}
    assert set(by_digest) == {"digest-test", "other"}
    assert list(by_digest["digest-test"].comparison.evaluations) == ["ours", "other", "ours in third"]
    assert by_digest["digest-test"].comparison.evaluations["ours"].seen == ["GAN", "DM", "Swap"]
    assert board.notes == [
        "1 Parquet file left out that is no score matrix",
        "2 detectors left out that came again with the same scores",
    ]
    files = write_boards(board, tmp_path / "out")
    assert all(file.is_file() and file.is_relative_to(tmp_path / "out") for file in files)
    assert {file.parent.name for file in files} == {"digest-test", "other"}
    assert json.dumps(board_facts(board.boards[0]))


def test_matrices_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    compared(tmp_path / "a")
    changed = replace(TEST, subsets=np.where(TEST.subsets == "GAN", "DM", TEST.subsets), real_of=SUBSETS)
    evaluation = evaluate(Bright(1.0), changed, None, bootstrap=60)
    write_matrix(tmp_path / "b.parquet", changed, None, {"x": evaluation})
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="say one digest of different pictures"):
        read_leaderboard(tmp_path)
    with pytest.raises(InputError, match="there is no score matrix"):
        read_leaderboard(empty)
    with pytest.raises(InputError, match="there is no folder"):
        read_leaderboard(tmp_path / "missing")


def tampered(file: Path, rows: Callable[[dict[str, list[Any]]], None], facts: Callable[[dict[str, Any]], None]) -> Path:
    table = pq.read_table(file)
    columns, known = table.to_pydict(), json.loads(table.schema.metadata[FACTS.encode()])
    rows(columns)
    facts(known)
    schema = table.schema.with_metadata({FACTS: json.dumps(known)})
    pq.write_table(pa.table(columns, schema=schema), file)
    return file


def nothing(_: Any) -> None: ...


def put(column: str, value: Any) -> Callable[[dict[str, list[Any]]], None]:
    return lambda columns: columns[column].__setitem__(3, value)


@pytest.mark.parametrize(
    ("rows", "facts", "said"),
    [
        (put("score", 1.5), nothing, "row 4: the score is no probability"),
        (put("score", float("nan")), nothing, "row 4: the score is no probability"),
        (put("score", None), nothing, "row 4: the score is no probability"),
        (put("label", 2), nothing, "row 4: the label is neither"),
        (put("split", "train"), nothing, "row 4: the split is neither"),
        (put("run", "stranger"), nothing, "row 4: the run is not among the facts"),
        (put("subset", None), nothing, "row 4: it has no subset"),
        (put("image_id", "test/0"), nothing, "not tested on the same pictures"),
        (put("image_id", "x" * 5000), nothing, "a text of more than 4,096 characters in image_id"),
        (lambda columns: columns["label"].__setitem__(3, 1), nothing, "no reals are named"),
        (nothing, lambda facts: facts.update(bootstrap=10**9), r"its facts are damaged \(bootstrap"),
        (nothing, lambda facts: facts.update(data_digest="../../x"), r"its facts are damaged \(data_digest"),
        (nothing, lambda facts: facts.update(version=2), r"its facts are damaged \(version"),
        (nothing, lambda facts: facts.update(more=2), r"its facts are damaged \(more"),
        (nothing, lambda facts: facts["detectors"].append(facts["detectors"][0]), "two detectors of one name"),
        (nothing, lambda facts: facts.update(detectors=[]), r"its facts are damaged \(detectors"),
    ],
)
def test_a_matrix_that_is_wrong_is_one_line(rows: Any, facts: Any, said: str, tmp_path: Path) -> None:
    compared(tmp_path)
    file = tampered(tmp_path / "scores.parquet", rows, facts)
    with pytest.raises(InputError, match=said) as caught:
        read_matrix(file)
    assert "\n" not in str(caught.value)
    assert "scores.parquet" in str(caught.value)


def test_hostile_names_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    compared(tmp_path)
    evil = "\x1b[2J\ue002<script>alert(1)</script>|[a](javascript:x)\n=1+1"

    def rename(columns: dict[str, list[Any]]) -> None:
        columns["subset"] = [evil if name == "GAN" else name for name in columns["subset"]]

    def name_it(facts: dict[str, Any]) -> None:
        facts["real_of"] = {evil if name == "GAN" else name: reals for name, reals in facts["real_of"].items()}
        facts["detectors"][0]["title"] = evil

    tampered(tmp_path / "scores.parquet", rename, name_it)
    board = read_leaderboard(tmp_path)
    texts = {file.suffix: file.read_text() for file in write_boards(board, tmp_path / "out")}
    shown = "".join(board_tables(board.boards[0], per_generator=True))
    for text in (*texts.values(), shown):
        assert "\x1b" not in text
        assert "\ue002" not in text
    assert "<script>" not in texts[".html"] + texts[".md"] + shown
    assert "](javascript" not in texts[".md"] + shown
    table = subset_table(board.boards[0]).render("csv")
    assert not any(cell.startswith("=") for line in table.splitlines() for cell in line.split(","))


def test_files_that_are_no_parquet_or_hide_a_flood_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"", b"PAR1", b"PAR1" + b"\xff" * 400 + b"PAR1"):
        (tmp_path / "bad.parquet").write_bytes(data)
        with pytest.raises(InputError, match=r"bad\.parquet"):
            read_matrix(tmp_path / "bad.parquet")
    compared(tmp_path / "good")
    good = tmp_path / "good" / "scores.parquet"
    monkeypatch.setattr(matrices, "MOST_ROWS", 100)
    with pytest.raises(InputError, match="has 550 rows, more than 100"):
        read_matrix(good)
    monkeypatch.undo()
    table = pq.read_table(good)
    pq.write_table(table.drop(["score"]), good)
    with pytest.raises(InputError, match="has no column 'score'"):
        read_matrix(good)
    pq.write_table(table.set_column(8, "score", pa.array(["x"] * table.num_rows)), good)
    with pytest.raises(InputError, match="the column 'score' is string"):
        read_matrix(good)


def test_a_column_of_a_thousand_millions_ends_in_the_child(tmp_path: Path) -> None:
    """A dictionary makes a long text many times over from a few bytes; the child's memory ends before this one's does."""
    file = tmp_path / "flood.parquet"
    text = "x" * 1_000_000
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 4096, pa.int32()), pa.array([text]))
    pq.write_table(pa.table({"image_id": rows}), file, store_schema=False, compression="zstd")  # without it, it is read as plain text
    assert file.stat().st_size < 1_000_000
    with pytest.raises(InputError, match=r"flood\.parquet"):
        tables.read_columns(file, {"image_id": "text"}, 10_000)
