"""A user's rules refuse prompts and pictures, with the reason in the ledger, where they are allowed to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generators.errors import InputError
from pipelines.build.build import run_build
from pipelines.images import decode
from pipelines.manifest.load import load_manifest
from pipelines.manifest.schema import Filters
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.rules import VARIABLE, against_picture, against_prompt
from pipelines.store import Store
from tests.support import write_manifest

RULES = """
import numpy as np

def prompt(text):
    return "names a person" if "Anna" in text else None

def picture(pixels):
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
    bright = float(pixels.mean())
    pixels[:] = 0
    return bright < 120

def number(text):
    return 3

def broken(text):
    raise KeyError("gone")
"""


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module of rules that no other test has imported, allowed to run."""
    name = f"rules_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(RULES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(VARIABLE, name)
    return name


def planned(folder: Path, filters: dict[str, Any], subsets: dict[str, Any]) -> Plan:
    data = {
        "dataset": "ruled",
        "size": 32,
        "audit": {"gate": False},
        "attempts": 12,
        "filters": filters,
        "reals": {"faces": {"package": "faces", "count": 30, "licence": "test"}},
        "subsets": subsets,
    }
    return make_plan(load_manifest(write_manifest(folder / "m.yaml", data)))


SAMPLED = {"count": 6, "real": "faces", "chain": [{"sample": "stylegan2", "checkpoint": "stylegan2-demo-32"}]}


def test_what_a_rule_refuses_is_in_the_ledger_with_the_reason(tmp_path: Path, rules: str) -> None:
    painted = {
        "prompt": "stable_diffusion",
        "checkpoint": "stable-diffusion-demo-32",
        "steps": 1,
        "safety": "off",
        "prompts": ["Anna in the sun", "a street"],
    }
    subsets = {"GAN": SAMPLED, "Text": {"count": 4, "real": "faces", "chain": [painted]}}
    filters = {"prompts": f"{rules}:prompt", "pictures": f"{rules}:picture"}
    store = Store(tmp_path / "store", "ruled")
    plan = planned(tmp_path, filters, subsets)
    run_build(plan, store, "cpu")
    rows = store.rows(images=True)
    refused = [row for row in rows if row.role == "rejected"]
    assert {row.reason for row in refused if row.subset == "Text"} >= {f"refused by {rules}:prompt: names a person"}
    assert {row.reason for row in refused if row.subset == "faces"} == {f"refused by {rules}:picture"}
    assert all("Anna" not in str(row.chain) for row in rows)
    kept = [row for row in rows if row.image is not None]
    assert len(kept) > 10 and any(row.role == "real" for row in kept) and any(row.subset == "GAN" for row in kept)
    for row in kept:
        assert 0 < decode(row.image or b"", row.id).mean() < 120, "kept as it was made, though the rule painted its copy black"


def test_another_rule_makes_other_shards(tmp_path: Path, rules: str) -> None:
    def keys(filters: dict[str, Any]) -> set[str]:
        return {shard.key for shard in planned(tmp_path, filters, {"GAN": SAMPLED}).shards}

    plain, one = keys({}), keys({"pictures": f"{rules}:picture"})
    assert "" not in plain | one and not plain & one
    assert keys({"prompts": f"{rules}:prompt"}) == plain, "there are no prompts"
    file = tmp_path / f"{rules}.py"
    file.write_text(file.read_text() + "# changed\n")
    assert not keys({"pictures": f"{rules}:picture"}) & one


def test_a_rule_that_was_not_allowed_is_not_imported(tmp_path: Path, rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger.py").write_text("raise SystemExit('it ran')\n")
    with pytest.raises(InputError, match=r"stranger:f is code that is not allowed to run.*--allow-rules"):
        planned(tmp_path, {"pictures": "stranger:f"}, {"GAN": SAMPLED})
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(InputError, match="not allowed to run"):
        against_prompt(Filters(prompts=f"{rules}:prompt"), "a street")


@pytest.mark.parametrize(
    ("rule", "message"),
    [("absent", "there is no rule"), ("np", "is no function"), ("number", "gave int"), ("broken", "failed: KeyError: 'gone'")],
)
def test_a_rule_that_is_wrong_is_named_in_one_line(rules: str, rule: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        against_prompt(Filters(prompts=f"{rules}:{rule}"), "a street")
    assert rules in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", ["os.system", "os:system; x", "../x:f", ":f", "a:b:c"])
def test_a_rule_is_written_as_module_and_function(tmp_path: Path, rule: str) -> None:
    with pytest.raises(InputError, match=r"filters\.pictures"):
        planned(tmp_path, {"pictures": rule}, {"GAN": SAMPLED})


def test_a_classifier_refuses_by_its_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores are the means of the channels."""
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, None, None])]
    graph = helper.make_graph([node], "mean", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])])
    file = tmp_path / "mean.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)
    red = np.full((8, 8, 3), (200, 10, 10), np.uint8)
    chosen = {"file": str(file), "output": 0, "above": 0.5}
    assert against_picture(Filters.model_validate({"classifier": chosen}), red) == "refused by mean.onnx: above 0.5"
    assert against_picture(Filters.model_validate({"classifier": {**chosen, "output": 1}}), red) is None
    with pytest.raises(InputError, match="gives 3 scores, and `output` is 3"):
        against_picture(Filters.model_validate({"classifier": {**chosen, "output": 3}}), red)
    keys = [
        frozenset(shard.key for shard in planned(tmp_path, {"classifier": {**chosen, "above": above}}, {"GAN": SAMPLED}).shards)
        for above in (0.5, 0.6)
    ]
    assert not keys[0] & keys[1]
    with pytest.raises(InputError, match="there is no classifier"):
        planned(tmp_path, {"classifier": {**chosen, "file": "nothing.onnx"}}, {"GAN": SAMPLED})
    monkeypatch.delenv("NTF_ALLOW_OUTSIDE", raising=False)
    with pytest.raises(InputError, match="leads out of the manifest's folder"):
        planned(tmp_path, {"classifier": {**chosen, "file": "../../nothing.onnx"}}, {"GAN": SAMPLED})
