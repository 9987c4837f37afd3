"""What is not on this machine is named with all that needs it, and leaves exactly the shards without a key that cannot be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from generators.errors import InputError
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import Plan, make_plan
from tests.support import write_manifest


def planned(folder: Path, data: dict[str, Any]) -> Plan:
    return make_plan(load_manifest(write_manifest(folder / "m.yaml", data)))


def unknown(plan: Plan) -> set[tuple[str, int]]:
    return {(shard.subset, shard.step) for shard in plan.shards if not shard.key}


def test_nothing_is_missing(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    plan = planned(tmp_path, manifest_data)
    assert plan.missing == () and not unknown(plan)
    plan.require_complete()


def test_a_checkpoint_that_is_not_here(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    manifest_data["checkpoints"]["sg2"]["file"] = str(tmp_path / "gone.safetensors")
    plan = planned(tmp_path, manifest_data)
    (missing,) = plan.missing
    assert (missing.what, missing.path) == ("checkpoint sg2", str(tmp_path / "gone.safetensors"))
    assert missing.needed_by == ("StyleGAN2", "SimSwap_Style2")
    assert unknown(plan) == {("StyleGAN2", 0), ("SimSwap_Style2", 0), ("SimSwap_Style2", 1)}
    with pytest.raises(InputError, match="checkpoint sg2 is missing"):
        plan.require_complete()


def test_how_many_more_are_missing_is_said(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    for name, more in (("sg2", ""), ("unet", " (and 1 more: see `ntf plan`)")):
        manifest_data["checkpoints"][name]["file"] = str(tmp_path / f"{name}.safetensors")
        plan = planned(tmp_path, manifest_data)
        with pytest.raises(InputError) as raised:
            plan.require_complete()
        first = plan.missing[0].error()
        assert (raised.value.message, raised.value.fix) == (first.message + more, first.fix)


def test_a_real_source_that_is_not_here(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    manifest_data["reals"]["faces"] = {"path": str(tmp_path / "gone"), "licence": "CC0"}
    plan = planned(tmp_path, manifest_data)
    (missing,) = plan.missing
    assert (missing.what, missing.licence) == ("real source faces", "CC0")
    assert set(missing.needed_by) == set(manifest_data["subsets"])
    assert unknown(plan) == {("SimSwap_Style2", 1)}  # the swap draws from it
