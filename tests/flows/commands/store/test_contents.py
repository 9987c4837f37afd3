"""The commands that look into a version: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable

from pipelines.store import Store

Run = Callable[..., tuple[int, str]]


def test_pairs_lists_pictures_of_more_than_one_image(ntf: Run, store: Store) -> None:
    code, text = ntf("store", "pairs", "fake", "--json")
    listed = json.loads(text)
    swapped = {row.id: row for row in store.rows("role = 'final' AND subset = 'Swapped'", 2)}
    assert code == 0
    assert {pair["images"]["Swapped"]: (pair["real"], pair["split"]) for pair in listed if "Swapped" in pair["images"]} == {
        name: (row.target_id, row.split) for name, row in swapped.items()
    }
    code, text = ntf("store", "pairs", "fake")
    assert code == 0 and f"{len(listed)} pictures with more than one image" in text
    assert ntf("store", "pairs", "nobody")[0] == 2


def test_duplicates_across_splits(ntf: Run) -> None:
    code, text = ntf("store", "duplicates", "fake", "--distance", "0")
    assert code == 0 and "0 pairs across splits" in text
