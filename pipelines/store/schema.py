"""What a row holds. Fake, real, intermediate and rejected images are all rows of one table, told apart by `role`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import pyarrow as pa

from pipelines.store.damage import StoreDamaged

SCHEMA_VERSION = 2  # 1: the column `real` was called `part`, and there was no number of the part

# Columns in which two stores with the same dataset must agree, with the later ones: all but the encoded bytes, which `sha256` stands for.
_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("id", pa.string()),  # SimSwap_LDM/celebahq/000017/1: subset, part, number, step; real/SOURCE/HASH for a real
    ("role", pa.string()),  # final, intermediate, real, rejected, delivered
    ("label", pa.int8()),  # 1 fake, 0 real
    ("subset", pa.string()),  # for a real: its source
    ("real", pa.string()),  # the real source that the fake is compared with
    ("family", pa.string()),  # GAN, DM, multi-step, real
    ("mode", pa.string()),  # GAN, DM, GAN-DM, ...: the families of the steps, last step first
    ("index", pa.int64()),  # number of the planned image in its part
    ("step", pa.int16()),
    ("attempt", pa.int16()),
    ("split", pa.string()),
    ("group", pa.string()),  # what decides the split
    ("seed", pa.int64()),
    ("chain", pa.string()),  # JSON: every step so far, with generator, checkpoint sha256, parameters, seed, source, target
    ("target_id", pa.string()),  # the row that this image was made from
    ("source_id", pa.string()),  # the real image whose identity was put on it
    ("identity", pa.string()),  # who is shown, as far as it is known
    ("reason", pa.string()),  # of a rejection
    ("measures", pa.string()),  # JSON: similarities, boxes, landmarks, sharpness
    ("format", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("bytes", pa.int64()),
    ("sha256", pa.string()),  # of the encoded bytes
    ("phash", pa.string()),
    ("shard_key", pa.string()),
    ("licence", pa.string()),
]

# Columns that came later. New ones are appended here and can be null, so that a column keeps its place, by which Lance knows it, and rows
# of an older store are read with null in them (`pipelines/store/upgrade.py`), or with the value in `FILLED`.
_LATER_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("part", pa.int32()),  # number of the part among those of its subset with the same real source, from 0
]
# A mask follows from all that decides the pixels, so that digests leave it out: a store made before masks were kept has the same.
LATEST = (("mask_sha256", pa.string()), ("mask", pa.large_binary()))  # a PNG, white where the image was reworked; null where nobody knows
# Later still, and counted in digests: the name of the delivery that the image went through, null for a clean one.
_DELIVERY: tuple[str, pa.DataType] = ("delivery", pa.string())
FILLED = {"part": 0}

SCHEMA = pa.schema(
    [*_COLUMNS, ("image", pa.large_binary()), *_LATER_COLUMNS, *LATEST, _DELIVERY], metadata={"ntf.schema": str(SCHEMA_VERSION)}
)
FIRST_COLUMNS = [name for name, _ in _COLUMNS]
LATER_COLUMNS = [name for name, _ in [*_LATER_COLUMNS, _DELIVERY]]
LIGHT_COLUMNS = [*FIRST_COLUMNS, *LATER_COLUMNS, "mask_sha256"]


Encoded = bytes  # Row has a field `bytes`, which would hide the type


@dataclass
class Row:
    """One image, or one rejection (`image` empty and `reason` set)."""

    id: str
    role: str
    label: int
    subset: str
    real: str
    family: str
    mode: str
    index: int
    split: str
    group: str
    shard_key: str
    licence: str
    part: int = 0
    step: int = 0
    attempt: int = 0
    seed: int | None = None
    chain: list[dict[str, Any]] = field(default_factory=list)
    target_id: str | None = None
    source_id: str | None = None
    identity: str | None = None
    reason: str | None = None
    measures: dict[str, Any] = field(default_factory=dict)
    format: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    sha256: str | None = None
    phash: str | None = None
    image: Encoded | None = None
    mask: Encoded | None = None
    mask_sha256: str | None = None
    delivery: str | None = None


def to_table(rows: list[Row]) -> pa.Table:
    """Rows as a table in the store's schema, `chain` and `measures` as canonical JSON."""
    columns: dict[str, list[Any]] = {item.name: [getattr(row, item.name) for row in rows] for item in fields(Row)}
    for name in ("chain", "measures"):
        columns[name] = [json.dumps(value, sort_keys=True, separators=(",", ":")) for value in columns[name]]
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def from_table(table: pa.Table) -> list[Row]:
    """The rows of a table; columns that were not read stay at their defaults."""
    known = {item.name for item in fields(Row)}
    rows = []
    for record in table.to_pylist():
        values = {name: value for name, value in record.items() if name in known}
        for name in ("chain", "measures"):
            if name in values:
                values[name] = parsed(values, name)
        rows.append(Row(**values))
    return rows


def quoted(text: str) -> str:
    """`text` as a string of SQL, whatever quotes it has."""
    return "'" + text.replace("'", "''") + "'"


def parsed(row: Mapping[str, Any], column: str) -> Any:
    """The JSON of a row's `chain` or `measures`. StoreDamaged if it is none."""
    try:
        return json.loads(row[column] or "null") or ({} if column == "measures" else [])
    except ValueError:
        reason = f"the column {column} of {row.get('id', 'a row')} is damaged"
        raise StoreDamaged(reason, "`ntf store mend` drops its shard, and the next `ntf build` makes it again") from None


def light(row: Row) -> dict[str, Any]:
    """A row without its encoded bytes, as plain data."""
    return {name: value for name, value in asdict(row).items() if name not in ("image", "mask")}
