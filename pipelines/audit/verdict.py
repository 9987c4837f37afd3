"""The verdict of an audit as plain data, and where it is kept: beside the versions of a store, one small JSON file for each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from generators.errors import InputError
from pipelines.store import Store, StoreDamaged


@dataclass(frozen=True)
class Verdict:
    """How well one family of features tells fake from real. `auc` is 0.5 for not at all; `low` and `high` bound it; `passed` says that 0.5
    is not below `low`. `remedy` is what to do about it, empty where there is nothing to be done."""

    name: str
    auc: float
    low: float
    high: float
    passed: bool
    remedy: str = ""


@dataclass(frozen=True)
class Gate:
    """Whether the container features leave fake and real indistinguishable, and a sentence on why or why not, or on why that is not known.

    What was not `judged` has not `passed`.
    """

    passed: bool
    reason: str
    judged: bool = True


@dataclass(frozen=True)
class Audit:
    """The audit of a version (or of a folder, `version` being None): `rows` images in `groups` groups were looked at.

    `container` is what the files say beside their pixels, and decides the gate. `traces` is what compression and resampling leave in the
    pixels, and is reported.
    """

    version: int | None
    rows: int
    groups: int
    container: tuple[Verdict, ...]
    traces: tuple[Verdict, ...]
    gate: Gate
    seconds: float
    delivery: str = ""  # the delivery whose images were looked at; empty for the clean ones

    def as_data(self) -> dict[str, Any]:
        """Plain data, as it is stored and as the report takes it."""
        return json.loads(json.dumps(asdict(self)))


def write_audit(store: Store, audit: Audit) -> None:
    """Keeps the audit of a version beside it. It is no part of the version: the digest does not know of it.

    InputError if the store cannot be written.
    """
    try:
        store.audits.write(audit_file(audit.version, audit.delivery), json.dumps(audit.as_data(), indent=2).encode())
    except OSError as error:
        raise InputError.unwritable(f"keep the audit in {store.audits.location}", error) from None


def audit_file(version: int | None, delivery: str = "") -> str:
    """The name of the file that an audit is kept in."""
    return f"{version}@{delivery}.json" if delivery else f"{version}.json"


def read_audit(store: Store, version: int | str | None = None, delivery: str = "") -> dict[str, Any] | None:
    """The audit of a version (number, tag, or the newest), or of one of its deliveries, as `Audit.as_data` gives it; None if it has not
    been audited."""
    data = store.audits.read(audit_file(store.version(version).number, delivery))
    try:
        audit = json.loads(data) if data else None
        gate: dict[str, Any] = audit["gate"] if audit is not None else {}
    except (ValueError, TypeError, KeyError):
        message = f"the audit of version {store.version(version).number} of {store.name} is damaged"
        raise StoreDamaged(message, f"Make it again: `ntf audit {store.name}`") from None
    if audit is not None and "judged" not in gate:  # of a release that let what was not judged pass
        judged = bool(audit["container"])
        audit["gate"] |= {"judged": judged, "passed": judged and audit["gate"]["passed"]}
    return audit
