"""A flow run begins before PyTorch and Lance are loaded, and a build loads nothing that trains."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest
import yaml

from tests.flows.processes import ROOT

ENTRYPOINTS = sorted({deployment["entrypoint"] for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]})
FLOWS = sorted({entrypoint.rpartition(".")[0] for entrypoint in ENTRYPOINTS})
COMPUTING = {"accelerate", "cv2", "diffusers", "lance", "PIL", "pyarrow", "scipy", "sklearn", "torch", "transformers"}
TRAINING = {"accelerate", "diffusers", "scipy", "sklearn", "transformers"}
# Imports modules one after the other in one fresh process, and tells after each what is loaded by then.
PROGRAM = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    print(json.dumps([name, sorted(loaded for loaded in sys.modules if "." not in loaded)]))
"""


@cache
def loaded() -> dict[str, set[str]]:
    """The packages that are loaded after each module, beginning with those that load the least."""
    order = [*FLOWS, "flows.deployments", "flows.building", "flows.refreshing", "flows.multistep"]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *order], capture_output=True, text=True, check=True, cwd=ROOT, timeout=300)
    return {name: set(packages) for name, packages in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", [*FLOWS, "flows.deployments"])
def test_a_flow_begins_without_what_computes(name: str) -> None:
    assert "prefect" in loaded()[name]
    assert not COMPUTING & loaded()[name]


@pytest.mark.parametrize("name", ["flows.building", "flows.refreshing"])
def test_a_build_and_a_refresh_with_nothing_to_do_load_nothing_that_trains(name: str) -> None:
    assert {"lance", "torch"} <= loaded()[name]
    assert not TRAINING & loaded()[name]


def test_what_trains_is_seen_to_load_it() -> None:
    assert {"accelerate", "sklearn"} <= loaded()["flows.multistep"]
