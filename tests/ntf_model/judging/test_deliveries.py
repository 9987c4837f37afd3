"""Clean and delivered pictures side by side, at one threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ntf_model.data.data import DetectionData, Item
from ntf_model.detector import Detector
from ntf_model.judging.deliveries import CLEAN, delivery_table, on_deliveries, side_by_side
from ntf_model.judging.evaluate import evaluate


class Brightness(Detector):
    """Calls bright pictures fake."""

    name = "brightness"
    title = "Brightness"

    def score(self, images: Sequence[Any]) -> np.ndarray:
        return np.array([image.mean() / 255 for image in images])

    @classmethod
    def train(cls, splits: Any, config: Any, run: Any) -> Brightness:
        return cls()

    def save_pretrained(self, folder: Any) -> None: ...

    @classmethod
    def from_pretrained(cls, folder: Any, device: Any = None) -> Brightness:
        return cls()


def data(fake: int, real: int, count: int = 12) -> DetectionData:
    items = [
        Item(np.full((8, 8, 3), (fake if label else real) + number, np.uint8), label, "A" if label else "r", f"{label}/{number}")
        for label in (0, 1)
        for number in range(count)
    ]
    labels, subsets = np.array([item.label for item in items]), np.array([item.subset for item in items])
    return DetectionData(items, labels, subsets, {"A": "r"}, {"A": "GAN"}, f"{fake}-{real}")  # type: ignore[arg-type]


def test_every_delivery_is_judged_at_the_threshold_of_clean_validation() -> None:
    """Darker after delivery: the order stays, so AUROC does, and the clean threshold calls all of them real."""
    detector = Brightness()
    clean = evaluate(detector, data(200, 100), data(200, 100), bootstrap=20)
    delivered = on_deliveries(detector, clean, {"web": data(200, 100), "hard": data(60, 10)})
    results = side_by_side({"brightness": {"web": delivered["web"], CLEAN: clean, "hard": delivered["hard"]}})
    assert results.deliveries == [CLEAN, "web", "hard"]
    (own,) = results.detectors
    assert own.threshold == clean.threshold == delivered["hard"].threshold
    accuracy = {result.delivery: result.overall["acc_fixed"].value for result in own.results}
    assert accuracy == {CLEAN: 1.0, "web": 1.0, "hard": pytest.approx(0.5)}
    assert [result.overall["auroc"].value for result in own.results] == [1.0, 1.0, 1.0]
    table = delivery_table(results)
    assert [title for title, _ in table.groups] == ["", CLEAN, "web", "hard"]
    text = table.render("markdown")
    assert "Results on clean and on delivered pictures" in text
    assert "50.00" in text
    assert len(table.render("csv").splitlines()) == 3
