"""The benchmark of native pictures, with a handful of them: killed once, resumed, and the same on a second machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.audit import photographs
from benchmarks.native import LEAST_SPREAD, is_right, run, windows, write_reals
from pipelines.images import decode, read_image
from pipelines.store import Store


def test_reals_are_windows_of_many_sizes_and_compressions(tmp_path: Path) -> None:
    pictures = photographs()
    for window in windows(pictures, 20, (16, 64), np.random.default_rng(1)):
        assert window.std() >= LEAST_SPREAD
    write_reals(tmp_path / "reals", pictures, 40, (16, 64))
    files = sorted((tmp_path / "reals").iterdir())
    shapes = {read_image(file).shape[:2] for file in files}
    assert len(files) == 40
    assert len(shapes) > 30
    assert {16 <= side <= 64 for shape in shapes for side in shape} == {True}
    assert {file.suffix for file in files} == {".jpg", ".png"}
    tables = {str(Image.open(file).quantization) for file in files if file.suffix == ".jpg"}  # type: ignore[attr-defined]
    assert len(tables) > 10


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_build_comes_to_what_a_second_machine_comes_to(tmp_path: Path) -> None:
    result = run(tmp_path, photographs(), reals=16, kills=1, sample=60, shard_size=8, sides=(33, 64))
    assert is_right(result), result
    assert result["kills"] == 1
    assert result["images"] == 16 * 4 * 3  # reals and three subsets: clean, web and hard
    store = Store(tmp_path / "one" / "store", "native")
    rows = {row.id: row for row in store.rows("role != 'rejected'", images=True)}
    sizes = {(row.height, row.width) for row in rows.values() if row.role == "real"}
    assert len(sizes) > 5
    whole = [row for row in rows.values() if row.role == "final" and row.subset != "DDASquare"]
    for row in whole:  # of the size of the real that it was made from, where that is in the dataset
        real = rows.get(row.target_id or "")
        assert real is None or (row.height, row.width) == (real.height, real.width)
        assert decode(row.image or b"", row.id).shape[:2] == (row.height, row.width)
    wrong = {**result, "digests": ["a", "b"]}
    assert not is_right(wrong)
    assert not is_right({**result, "made again": {"DDA clean: within one grey level": 1}})
