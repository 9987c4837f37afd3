"""Detectors and scores from elsewhere in the same tables."""

from __future__ import annotations

import csv
import io
import weakref
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ntf_model.baselines.wang2020 import Wang2020
from ntf_model.comparing import compare as comparing
from ntf_model.comparing import in_turn
from ntf_model.comparing.compare import Comparison, Cost, compare, read_cost, score_together, train_all
from ntf_model.comparing.comparison_data import ComparisonData, plain_data
from ntf_model.comparing.comparison_tables import all_tables, measure_table, render, write_comparison
from ntf_model.comparing.in_turn import InTurn
from ntf_model.comparing.score_files import read_score_table, read_scores
from ntf_model.data.data import DetectionData, DetectionSplits, Item
from ntf_model.errors import InputError
from ntf_model.recipes.transforms import Preprocess
from ntf_model.registry import get_detector, load_detector


class Smoothness(Wang2020):
    """Scores a picture by how little its neighbouring pixels differ; `strength` makes it worse or better."""

    name, title = "smoothness", "Smoothness"

    def __init__(self, strength: float, preprocess: Preprocess | None = None):
        super().__init__(Wang2020.Config(size=16), nn.Linear(3, 1), "cpu")
        self.strength, self.own = strength, preprocess or Preprocess(crop=16)

    @property
    def preprocess(self) -> Preprocess:
        return self.own

    def score_tensors(self, tensors: Any) -> np.ndarray:
        rough = np.array([(tensor[:, 1:] - tensor[:, :-1]).abs().mean().item() for tensor in tensors])
        noise = np.array([np.random.default_rng(int(1e6 * float(tensor.sum())) % 2**32).normal() for tensor in tensors])
        return 1 / (1 + np.exp(40 * self.strength * (rough - 0.08) + 2 * (1 - self.strength) * noise))


@dataclass(frozen=True)
class Counting:
    """A dataset that counts how often each picture is decoded."""

    dataset: Any
    read: Counter

    def __getitem__(self, index: int) -> Item:
        self.read[index] += 1
        return self.dataset[index]

    def __len__(self) -> int:
        return len(self.dataset)


@pytest.fixture
def compared(splits: DetectionSplits) -> Comparison:
    detectors = {"ntf": Smoothness(1.0), "weak": Smoothness(0.3)}
    training = {"weak": Cost(training_seconds=12.0, training_memory=2**30)}
    return compare(detectors, splits.test, splits.validation, training=training, bootstrap=100)


def counted(data: DetectionData) -> tuple[DetectionData, Counter]:
    read: Counter = Counter()
    return replace(data, dataset=Counting(data.dataset, read)), read


def test_each_picture_is_decoded_once_and_prepared_once_for_equal_preprocessing(
    splits: DetectionSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, read = counted(splits.test)
    prepared: Counter = Counter()
    call = Preprocess.__call__

    def counting(self: Preprocess, image: np.ndarray) -> torch.Tensor:
        prepared[self] += 1
        return call(self, image)

    monkeypatch.setattr(Preprocess, "__call__", counting)
    other = Preprocess(crop=12)
    together = score_together({"a": Smoothness(1.0), "b": Smoothness(0.3), "c": Smoothness(1.0, other)}, data, batch_size=5)
    assert set(read.values()) == {1}
    assert len(read) == len(data)
    assert prepared == {Preprocess(crop=16): len(data), other: len(data)}
    assert together.ids == [item.id for item in (data.dataset[row] for row in range(len(data)))]
    assert np.array_equal(together.scores["a"], Smoothness(1.0).score([data.dataset[row].image for row in range(len(data))]))
    assert all(seconds > 0 for seconds in together.seconds.values())


def test_the_better_detector_is_better_beyond_chance(compared: Comparison) -> None:
    assert compared.reference == "ntf"
    (difference,) = compared.differences
    assert difference.other == "weak"
    auroc = difference.measures["auroc"]
    assert auroc.value == pytest.approx(
        compared.evaluations["ntf"].overall["unweighted"].measures["auroc"].value
        - compared.evaluations["weak"].overall["unweighted"].measures["auroc"].value
    )
    assert 0 < auroc.low < auroc.value < auroc.high
    assert difference.p["auroc"] < 0.05


def test_a_detector_against_itself_differs_by_nothing(splits: DetectionSplits) -> None:
    same = compare({"ntf": Smoothness(0.5), "twin": Smoothness(0.5)}, splits.test, splits.validation, bootstrap=50)
    measure = same.differences[0].measures["ap"]
    assert (measure.value, measure.low, measure.high) == (0, 0, 0)
    assert same.differences[0].p["ap"] == 1
    assert "**" not in render([measure_table(same, "ap")], "markdown")  # no best among equals


def test_costs_are_what_was_measured_and_what_is_known(compared: Comparison) -> None:
    assert compared.costs["weak"].training_seconds == 12
    assert compared.costs["weak"].parameters == 4
    assert compared.costs["ntf"].training_seconds is None
    assert compared.costs["ntf"].images_per_second > 0


@pytest.mark.parametrize(
    ("form", "best", "second"), [("markdown", "**", "*"), ("html", "<strong>", "<u>"), ("latex", r"\textbf{", r"\underline{")]
)
def test_the_best_and_second_best_are_marked_in_every_form(compared: Comparison, form: Any, best: str, second: str) -> None:
    text = render([measure_table(compared, "auroc", intervals=False)], form)
    lines = [line for line in text.splitlines() if "Smoothness (ntf)" in line]
    others = [line for line in text.splitlines() if "Smoothness (weak)" in line]
    assert lines[0].count(best) >= 5
    assert others[0].count(second) >= 5
    assert best not in others[0] or form == "markdown"
    assert not any(mark in text for mark in "\ue000\ue001\ue002")


def test_lower_is_better_for_error_rates(compared: Comparison) -> None:
    table = measure_table(compared, "fpr", intervals=False)
    values = {name: evaluation.overall["unweighted"].measures["fpr"].value for name, evaluation in compared.evaluations.items()}
    row = 0 if values["ntf"] < values["weak"] else 1
    assert "**" in render([replace(table, rows=[table.rows[row]])], "markdown").split("|")[-3]


def test_csv_has_a_row_for_each_detector_and_plain_numbers(compared: Comparison) -> None:
    rows = list(csv.reader(io.StringIO(render([measure_table(compared, "ap", intervals=False)], "csv"))))
    assert rows[0] == ["detector", "blocky", "smooth", "other mean", "mean", "weighted mean"]
    assert [len(row) for row in rows] == [len(rows[0])] * 4
    assert rows[-1][0] == "by chance"
    assert all(0 <= float(cell) <= 100 for row in rows[1:] for cell in row[1:])


def test_all_files_are_written(compared: Comparison, tmp_path: Path) -> None:
    compared.notes["weak"] = "a <note> & more"
    files = write_comparison(compared, tmp_path / "out")
    assert [file.name for file in files[:5]] == [f"comparison.{suffix}" for suffix in ("json", "html", "md", "tex", "csv")]
    assert {"comparison-ap-by-subset.csv", "comparison-cost.csv"} <= {file.name for file in files}
    tables = all_tables(compared)
    assert len(files) == 4 + len(tables)
    for file, table in zip(files[4:], tables, strict=True):
        rows = [*csv.reader(file.open())]
        assert len(rows) == 1 + len(table.rows) and {len(row) for row in rows} == {len(rows[0])}, "one table in a file"
    page = files[1].read_text()
    assert "a &lt;note&gt; &amp; more" in page
    assert "src=" not in page  # one file, needs nothing else
    assert [table.title for table in all_tables(compared)][::9] == ["All subsets", "Cost"]


def test_the_plain_data_say_what_the_tables_show(compared: Comparison, tmp_path: Path) -> None:
    data = ComparisonData.load(write_comparison(compared, tmp_path)[0])
    assert data == plain_data(compared)
    assert [detector.name for detector in data.detectors] == ["ntf", "weak"]
    assert data.detectors[1].training_seconds == 12
    assert data.detectors[1].memory_mib == 1024
    assert ["detector", *data.columns] == measure_table(compared, "ap").header
    assert data.cells["weak"]["smooth"]["fpr"] == compared.evaluations["weak"].row("smooth").measures["fpr"]
    assert set(data.families) == {"blocky", "smooth"}
    (paired,) = data.paired
    assert (paired.reference, paired.other) == ("ntf", "weak")
    assert paired.measures["auroc"].p == compared.differences[0].p["auroc"]
    assert paired.measures["auroc"].low == compared.differences[0].measures["auroc"].low
    with pytest.raises(InputError, match=r"nothing\.json is no comparison"):
        ComparisonData.load(tmp_path / "nothing.json")


def test_scores_from_elsewhere_stand_beside_detectors(splits: DetectionSplits, tmp_path: Path) -> None:
    detector = Smoothness(0.5)
    file = tmp_path / "other.csv"
    for parts, threshold_known in (((splits.test,), False), ((splits.validation, splits.test), True)):
        lines = ["score,id,comment"]
        for data in parts:
            together = score_together({"d": detector}, data)
            lines += [f"{score},{name},x" for name, score in zip(together.ids, together.scores["d"], strict=True)]
        file.write_text("\n".join(lines))
        both = compare({"ntf": detector}, splits.test, splits.validation, scores={"elsewhere": file}, bootstrap=20)
        own, other = both.evaluations["ntf"], both.evaluations["elsewhere"]
        assert other.subsets[0].measures["ap"] == own.subsets[0].measures["ap"]
        assert (other.threshold == own.threshold) if threshold_known else (other.threshold == 0.5)
        assert both.costs["elsewhere"] == Cost()
        assert "other.csv" in both.notes["elsewhere"]
    with pytest.raises(InputError, match="two detectors called 'ntf'"):
        compare({"ntf": detector}, splits.test, splits.validation, scores={"ntf": file}, bootstrap=0)


def test_scores_without_a_detector_can_be_compared(splits: DetectionSplits, tmp_path: Path) -> None:
    ids = score_together({}, splits.test).ids
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("\n".join(f"{picture},0.5" for picture in ids))
    comparison = compare({}, splits.test, splits.validation, scores={name: tmp_path / f"{name}.csv" for name in ("a", "b")}, bootstrap=10)
    assert comparison.reference == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,score\na,0.5\n", "has no score for 1 of the 2 pictures, such as 'b'"),
        ("a,0.5\nb,1.5\n", r"line 2: the score 1\.5 is not between 0 and 1"),
        ("a,0.5\nb,nan\n", "line 2: the score nan is not between 0 and 1"),
        ("a,0.5\na,0.5\nb,0\n", "line 2: 'a' comes a second time"),
        ("a,0.5\nb,high\n", "line 2: 'b, high' is no picture id and score"),
        ("a,0.5\nb,1_0\n", "line 2: 'b, 1_0' is no picture id and score"),
        ("a\nb\n", "line 1: it has 1 column, not 2"),
        ("a,0.5,x\nb,0.5,y\n", "line 1: it has 3 columns, not 2"),
        ("id,score\na,0.5\nb\n", "line 3: it has 1 column, not 2"),
        ("a,0,5\nb,0,5\n", "line 1: it has 3 columns, not 2"),
        ("a;0,5\nb;0,5\n", "line 1 has several separators"),
        ("", "is empty"),
        ("id,score\n", "has no scores"),
        ("name,score\na,0.5\n", "line 1: 'name, score' is no picture id and score"),
        ("id,value\na,0.5\n", "line 1: 'id, value' is no picture id and score"),
    ],
)
def test_bad_scores_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        read_scores(file, ["a", "b"])


def test_scores_may_have_a_header_a_mark_and_more_pictures(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text("\ufeffImage ID, Score\nc,1\nb,0.25\n\na,0\n", encoding="utf-8")
    assert read_scores(file, ["a", "b"]).tolist() == [0, 0.25]
    with pytest.raises(InputError, match="the scores: there is no file"):
        read_scores(tmp_path / "none.csv", ["a"])


def test_what_was_trained_is_loaded_when_resumed(splits: DetectionSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = get_detector("probe").preset("demo", image_size=16)
    trained = train_all(splits, {"probe": config}, tmp_path, device="cpu")["probe"]
    cost = read_cost(tmp_path / "probe")
    assert cost.training_seconds > 0
    assert cost.training_memory > 0
    monkeypatch.setattr(comparing, "get_detector", None)  # nothing may be trained now
    again = train_all(splits, {"probe": config}, tmp_path, device="cpu", resume=True)["probe"]
    image = splits.test.dataset[0].image
    assert again.score([image]) == trained.score([image])
    (tmp_path / "probe" / "cost.json").unlink()
    assert read_cost(tmp_path / "probe").training_seconds > 0  # from the run's own record
    assert read_cost(tmp_path) == Cost()


def test_detectors_in_turn_are_judged_as_those_together_and_one_at_a_time_is_in_memory(
    splits: DetectionSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["first", "second", "third"]
    for seed, name in enumerate(names):
        get_detector("probe").fit(splits, get_detector("probe").preset("demo", image_size=16, seed=seed), tmp_path / name, device="cpu")
    folders = {name: tmp_path / name for name in names}
    together = compare(
        {name: load_detector(folder, "cpu") for name, folder in folders.items()}, splits.test, splits.validation, bootstrap=20
    )
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    loads: list[str] = []

    def counting(folder: Path, device: Any) -> Any:
        assert not len(alive), "another one is still in memory"
        loads.append(folder.name)
        detector = load_detector(folder, device)
        alive.add(detector)
        return detector

    monkeypatch.setattr(in_turn, "load_detector", counting)
    one_by_one = compare(InTurn(folders, "cpu"), splits.test, splits.validation, bootstrap=20)
    assert one_by_one.evaluations == together.evaluations
    assert one_by_one.differences == together.differences
    assert one_by_one.notes == together.notes
    assert loads == [*names, *names, *names]  # for the validation split, the test split, and what they say of themselves
    monkeypatch.setattr(in_turn, "load_detector", load_detector)


@pytest.mark.parametrize(
    "data",
    [
        "id,score\na,0.25\nb,1\n".encode("utf-8-sig"),
        b"id,score\r\na,0.25\r\n\r\nb,1\r\n",
        b"id;score\na;0,25\nb;1\n",
        b"a\t0.25\nb\t1.0\n",
        b"model,score,id\nx,0.25, a \ny,1,b\n",
        b'"a",".25"\n"b","1e0"\n',
        b"a 0.25\n./b  1\n",
        b"id;score;model\na;0,25;x,y\nb;1;z\n",
    ],
)
def test_scores_as_spreadsheets_write_them(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "scores.csv"
    file.write_bytes(data)
    assert read_scores(file, ["a", "b"]).tolist() == [0.25, 1.0]


@pytest.mark.parametrize(
    ("header", "named"),
    [("id,score,score", "score, score"), ("score,id,probability", "score, probability"), ("id,ID,score", "id, id")],
)
def test_a_header_that_names_two_columns_is_refused(header: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(f"{header}\na,0.5,0.5\n")
    with pytest.raises(InputError, match=f"line 1: it is not certain which of the columns {named} is meant"):
        read_scores(tmp_path / "s.csv", ["a"])


@pytest.mark.parametrize(("encoding", "message"), [("utf-16", "is UTF-16"), ("utf-16-le", "is UTF-16"), ("latin-1", "line 2 is not UTF-8")])
def test_scores_in_another_encoding_are_refused_by_its_name(tmp_path: Path, encoding: str, message: str) -> None:
    file = tmp_path / "scores.csv"
    file.write_bytes("id,score\nÄ,0.5\n".encode(encoding))
    with pytest.raises(InputError, match=message):
        read_scores(file, ["Ä"])


def test_composed_and_decomposed_letters_are_the_same_id(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text("id,score\nmu\u0308ller.png,0.5\n", encoding="utf-8")
    assert read_scores(file, ["m\u00fcller.png"]).tolist() == [0.5]
    file.write_text("id,score\nm\u00fcller.png,0.5\n", encoding="utf-8")
    assert read_scores(file, ["mu\u0308ller.png"]).tolist() == [0.5]


def test_ids_may_leave_out_the_split_and_are_then_those_of_the_test_split_alone(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    known = ["validation/fake/0.png", "validation/real/0.png", "test/fake/0.png", "test/real/0.png"]
    file.write_text("fake/0.png,0.8\nreal/0.png,0.6\n")
    assert read_score_table(file, known[2:], known) == {"test/fake/0.png": 0.8, "test/real/0.png": 0.6}
    file.write_text("".join(f"{name},0.5\n" for name in known))
    assert set(read_score_table(file, known[2:], known)) == set(known)
    file.write_text("fake/0.png,0.8\nreal/0.png,0.6\ntest/fake/0.png,0.7\n")
    with pytest.raises(InputError, match=r"has no score for 1 of the 2 pictures, such as 'test/real/0\.png'"):
        read_score_table(file, known[2:], known)
