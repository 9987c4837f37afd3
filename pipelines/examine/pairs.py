"""Images of one picture at different steps: subsets that begin at each other's images, and the real image behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.store import Store
from pipelines.store.schema import parsed


@dataclass(frozen=True)
class Partners:
    """The final images of one picture: their ids by subset, in the order of their steps, and the real image that the first was made of, if
    it was made of one."""

    group: str
    split: str
    images: dict[str, str]
    real: str | None = None


def partners(store: Store, version: int | str | None = None) -> list[Partners]:
    """All pictures of a version that more than one image shows, in the order of their groups.

    A group with one final image alone counts where that image was made of a real one.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    columns = ["id", "subset", "group", "split", "step", "chain"]
    for batch in store.scan(columns, "role = 'final'", version):
        for row in batch.to_pylist():
            groups.setdefault(row["group"], []).append(row)
    pairs = [_partners(group, rows) for group, rows in sorted(groups.items())]
    return [pair for pair in pairs if len(pair.images) + (pair.real is not None) > 1]


def _partners(group: str, rows: list[dict[str, Any]]) -> Partners:
    ordered = sorted(rows, key=lambda row: (row["step"], row["id"]))
    chain = parsed(ordered[0], "chain")
    images = {str(row["subset"]): str(row["id"]) for row in ordered}
    return Partners(group, str(ordered[0]["split"]), images, chain[0].get("target") if chain else None)
