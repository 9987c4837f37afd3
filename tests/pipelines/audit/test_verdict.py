"""The audit of a build lies beside its version, decides the gate, and goes with the version."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.audit import audit_version, classify, read_audit, write_audit
from pipelines.build.build import require_gate, run_build
from pipelines.errors import CheckFailed
from pipelines.make.rows import Picture
from pipelines.manifest.load import load_manifest
from pipelines.manifest.schema import Codec
from pipelines.plan.plan import make_plan
from pipelines.store import Row, Store
from pipelines.store.garbage import collect_garbage
from tests.support import write_manifest


@pytest.fixture(autouse=True)
def _fewer_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is planted here shows with small forests too."""
    monkeypatch.setattr(classify, "TREES", 6)
    monkeypatch.setattr(classify, "RESAMPLES", 400)


def built(folder: Path, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch, biased: bool = False) -> tuple[Any, Store]:
    """A build of 30 fakes against 40 reals; with the fakes as JPEG if `biased`."""
    data["subsets"] = {"StyleGAN2": {**data["subsets"]["StyleGAN2"], "count": 30}}
    if biased:
        encoded = Picture.encoded

        def by_label(self: Picture, codec: Codec) -> Row:
            return encoded(self, Codec(format="jpeg") if self.row.label else codec)

        monkeypatch.setattr(Picture, "encoded", by_label)
    plan, store = make_plan(load_manifest(write_manifest(folder / "m.yaml", data))), Store(folder / "store", "tiny")
    run_build(plan, store, "cpu")
    return plan, store


def test_a_build_is_audited_and_the_result_kept_beside_the_version(
    tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = built(tmp_path, manifest_data, monkeypatch)
    audit = read_audit(store)
    assert audit is not None
    assert (audit["version"], audit["rows"], audit["gate"]["passed"]) == (1, 60, True)
    assert set(audit) == {"version", "rows", "groups", "container", "traces", "gate", "seconds", "delivery"}
    assert set(audit["traces"][0]) == {"name", "auc", "low", "high", "passed", "remedy"}
    require_gate(plan, store)
    again = audit_version(store, 1).as_data()
    assert {**again, "seconds": 0} == {**audit, "seconds": 0}, "the same version, the same figures"
    collect_garbage(store)
    assert read_audit(store) == audit
    assert store.digest() == store.version().digest
    write_audit(store, audit_version(store))
    assert store.digest() == store.version().digest


def test_a_failing_gate_keeps_the_version_and_says_why(
    tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = built(tmp_path, manifest_data, monkeypatch, biased=True)
    assert store.version().number == 1
    with pytest.raises(CheckFailed, match=r"version 1 is kept.*format: real PNG, fake JPEG.*remedy"):
        require_gate(plan, store)
    manifest_data["audit"] = {"gate": False}
    require_gate(make_plan(load_manifest(write_manifest(tmp_path / "free.yaml", manifest_data))), store)


def test_an_audit_goes_with_its_version(tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _, store = built(tmp_path, manifest_data, monkeypatch)
    with store.building():
        store.without([store.rows("role = 'final'")[0].id])
    assert store.audits.read("1.json")
    assert read_audit(store) is None
    collect_garbage(store, keep=1)
    assert store.audits.read("1.json") is None
    assert json.dumps(audit_version(store).as_data())


@pytest.mark.parametrize(
    ("gate", "container", "read"),
    [
        ({"passed": True, "judged": True, "reason": "x"}, [1], {"passed": True, "judged": True, "reason": "x"}),
        ({"passed": False, "judged": False, "reason": "x"}, [], {"passed": False, "judged": False, "reason": "x"}),
        ({"passed": False, "judged": False, "reason": "x"}, [1], {"passed": False, "judged": False, "reason": "x"}),
        # An earlier release wrote no `judged`, and let pass what it could not judge.
        ({"passed": True, "reason": "x"}, [], {"passed": False, "judged": False, "reason": "x"}),
        ({"passed": True, "reason": "x"}, [1], {"passed": True, "judged": True, "reason": "x"}),
        ({"passed": False, "reason": "x"}, [1], {"passed": False, "judged": True, "reason": "x"}),
    ],
)
def test_an_audit_is_read_as_it_was_written_and_an_earlier_one_by_what_it_judged(
    tmp_path: Path, gate: dict[str, Any], container: list[int], read: dict[str, Any]
) -> None:
    kept = {"7.json": json.dumps({"version": 7, "container": container, "gate": gate}).encode()}
    store = SimpleNamespace(name="s", version=lambda _: SimpleNamespace(number=7), audits=SimpleNamespace(read=kept.get))
    assert read_audit(store) == {"version": 7, "container": container, "gate": read}  # type: ignore[arg-type]
    kept.clear()
    assert read_audit(store) is None  # type: ignore[arg-type]
