"""What the gate says of verdicts: which families are named, with which figures, differences and remedies."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.audit import Gate, Verdict, audit, classify
from pipelines.audit.audit import DEAD_ZONE, _commonest, _difference, _gate, _Sizes, _with_excess, _with_medians, _with_pixels, judge
from pipelines.audit.families import APPEARANCE, DIMENSIONS, ENCODER, FORMAT, METADATA, SIZE, TOGETHER, Family
from pipelines.audit.pictures import Picture
from pipelines.audit.remedies import REMEDIES

LABELS = np.array([0, 0, 0, 1, 1, 1])


def told(name: str, auc: float = 0.9) -> Verdict:
    return Verdict(name, auc, auc - 0.1, min(1.0, auc + 0.05), False, f"mend {name}")


def silent(name: str) -> Verdict:
    return Verdict(name, 0.52, 0.4, 0.6, True)


def test_the_gate_names_each_family_that_tells_with_its_difference_and_not_what_joins_them() -> None:
    files: dict[str, list[Family]] = {
        FORMAT: [{"format": "PNG"}] * 3 + [{"format": "JPEG"}] * 3,
        METADATA: [{"exif": 1.0}] * 2 + [{"exif": 0.0}] * 4,
        ENCODER: [{}] * 6,
    }
    passed = _gate((silent(FORMAT), silent(METADATA)), files, LABELS)
    assert (passed.passed, passed.reason, passed.judged) == (True, "the files do not tell fake from real", True)
    failed = _gate((told(FORMAT, 0.95), told(METADATA, 0.834), silent(ENCODER), told(TOGETHER)), files, LABELS)
    assert not failed.passed and failed.judged
    assert failed.reason == (
        f"the files tell fake from real by format (AUC 0.95 [0.85, 1.00]; format: real PNG, fake JPEG; remedy: mend {FORMAT})"
        f", and by metadata (AUC 0.83 [0.73, 0.88]; exif: real 1, fake 0; remedy: mend {METADATA})"
    )
    alone = _gate((silent(FORMAT), told(TOGETHER)), files, LABELS)
    assert alone.reason == f"the files tell fake from real by {TOGETHER} (AUC 0.90 [0.80, 0.95]; remedy: mend {TOGETHER})"


def test_dimensions_that_are_judged_apart_are_told_by_their_own_pictures() -> None:
    files: dict[str, list[Family]] = {DIMENSIONS: [{"width": 64.0}] * 6}
    others = [Picture(str(number), number // 2, "r", str(number), None, (32 + 8 * (number // 2), 32)) for number in range(4)]
    unknown = Picture("x", 1, "r", "x", None)
    sizes = _Sizes.of([*others, unknown])
    assert ([*sizes.pictures], sizes.labels.tolist(), [row["width"] for row in sizes.rows]) == (others, [0, 0, 1, 1], [32, 32, 40, 40])
    assert "width: real 32, fake 40" in _gate((told(DIMENSIONS),), files, LABELS, sizes).reason
    assert "width" not in _gate((told(DIMENSIONS),), files, LABELS).reason


def test_pixels_that_tell_are_said_strongest_first_whether_the_gate_passed_or_not() -> None:
    gate = Gate(True, "the files do not tell fake from real")
    assert _with_pixels(gate, [silent("a"), silent("b")]) == gate
    some = [told("a", 0.7), silent("b"), told("c", 0.987)]
    assert _with_pixels(gate, some) == Gate(True, f"{gate.reason}, but the pixels do, by c (AUC 0.99), a (AUC 0.70)")
    assert _with_pixels(Gate(False, "why"), some) == Gate(False, "why; also the pixels do, by c (AUC 0.99), a (AUC 0.70)")


def test_the_remedy_for_appearances_begins_with_what_differs_most() -> None:
    lower: list[Family] = [{"a": 5.0, "b": float(number >= 3)} for number in range(6)]
    assert _with_medians(told(APPEARANCE), lower, LABELS).remedy.startswith("b is 0 in the reals and 1 in the fakes")
    higher: list[Family] = [{"a": float(number % 2), "b": float(number < 3)} for number in range(6)]
    assert _with_medians(told(APPEARANCE), higher, LABELS).remedy.startswith("b is 1 in the reals and 0 in the fakes")
    little: list[Family] = [{"same": 5.0, "b": value, "c": value} for value in (1.0, 2.0, 3.0, 1.0, 2.0, 4.0)]
    assert _with_medians(told(APPEARANCE), little, LABELS).remedy.startswith("b is 2 in the reals and 2 in the fakes")
    assert _with_medians(told(FORMAT), higher, LABELS) == told(FORMAT)
    assert _with_medians(silent(APPEARANCE), higher, LABELS) == silent(APPEARANCE)


def test_the_difference_of_a_family_is_the_largest_by_shares_of_each_class() -> None:
    assert _difference([{"a": 1.0}] * 6, LABELS) == ""
    few = np.array([0, 1, 1, 1, 1, 1])  # one real: shares count and not numbers
    rows: list[Family] = [{"a": "x", "b": "u"}, *[{"a": "x", "b": "u"}] * 2, *[{"a": "y", "b": "u"}] * 2, {"b": "v"}]
    assert _difference(rows, few) == "a: real x, fake x"
    late: list[Family] = [{"b": "u"}] * 3 + [{"b": "u", "a": "z"}] * 3
    assert _difference(late, LABELS) == "a: real none, fake z"


@pytest.mark.parametrize(
    ("values", "words"),
    [([1.0, 1.0, 2.0], "1"), ([0.123456, 0.123456], "0.1235"), ([None, None, "a"], "none"), (["w" * 99], "w" * 60), ([1234.5678], "1235")],
)
def test_the_commonest_value_is_said_in_few_letters(values: list[Any], words: str) -> None:
    assert _commonest(Counter(values)) == words


def test_sizes_are_told_in_steps_from_the_usual_one() -> None:
    families: list[Family] = [{"bytes": float(number)} for number in range(5)]
    told_sizes = _with_excess(families, [0.30, 0.31, None, 0.29, 0.52])
    usual = float(np.median([0.30, 0.31, 0.29, 0.52]))
    steps = [value if value is None else round((value - usual) / DEAD_ZONE) for value in (0.30, 0.31, None, 0.29, 0.52)]
    assert steps == [0, 0, None, 0, 2]
    for family, row, step in zip(families, told_sizes, steps, strict=True):
        assert row["bytes"] == family["bytes"]
        assert "excess" not in row if step is None else row["excess"] == pytest.approx(step * DEAD_ZONE)
    assert _with_excess(families[:2], [None, None]) == families[:2]


def test_a_family_that_does_not_vary_is_even_and_more_families_make_wider_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "TREES", 6)
    monkeypatch.setattr(classify, "RESAMPLES", 400)
    labels = np.repeat([0, 1], 60)
    setup = classify.design(labels, [str(number) for number in range(120)])
    assert setup is not None
    rng = np.random.default_rng(0)
    noise: list[Family] = [{"x": float(rng.normal())} for _ in labels]
    shown: list[Family] = [{"x": float(label)} for label in labels]
    flat: list[Family] = [{"x": 1.0}] * len(labels)
    even, random, sure = judge({FORMAT: flat, SIZE: noise, METADATA: shown}, setup)
    assert (even.auc, even.low, even.high, even.passed, even.remedy) == (0.5, 0.5, 0.5, True, "")
    assert random.low <= 0.5 <= random.high and random.passed and random.remedy == ""
    assert (sure.auc, sure.low, sure.passed, sure.remedy) == (1.0, 1.0, False, REMEDIES[METADATA])
    (alone,) = judge({SIZE: noise}, setup)
    (beside,) = judge({SIZE: noise}, setup, beside=6)
    assert beside.auc == alone.auc == random.auc
    assert beside.low < random.low < alone.low and beside.high > random.high > alone.high


@pytest.mark.parametrize("delivery", ["", "web"])
def test_an_audit_of_a_delivery_looks_at_its_images_and_says_so(monkeypatch: pytest.MonkeyPatch, delivery: str) -> None:
    asked: list[tuple[int, str]] = []

    def pictures_of(dataset: Any, name: str) -> list[Picture]:
        asked.append((dataset.version, name))
        return [Picture(f"{number}@{name}", number % 2, "r", str(number), number) for number in range(6)]

    monkeypatch.setattr(audit, "pictures_of_version", pictures_of)
    monkeypatch.setattr(audit, "stored_images", lambda dataset, pictures: iter(()))
    told_of = audit.audit_version(SimpleNamespace(dataset=lambda which: SimpleNamespace(version=which)), 7, delivery)  # type: ignore[arg-type]
    assert asked == [(7, delivery)]
    assert (told_of.version, told_of.delivery, told_of.rows, told_of.groups, told_of.gate.judged) == (7, delivery, 6, 6, False)
