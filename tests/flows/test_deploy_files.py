"""The files in deploy/ and prefect.yaml fit together, hold no secrets, and take no rights that they do not need."""

from __future__ import annotations

import importlib
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow

from flows import lasting
from flows.deployments import deployments
from foreign.errors import InputError
from tests.flows.processes import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
TEMPLATE = yaml.safe_load((DEPLOY / "kubernetes-job.yaml").read_text())
POD = TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def of_the_image(variable: str) -> str:
    place = re.search(rf"\b{variable}=(\S+)", DOCKERFILE)
    assert place is not None
    return place[1]


def is_ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file from the image: the last pattern decides that matches it or a folder above it."""
    above = [path, *map(str, Path(path).parents)][:-1]
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if line and not line.startswith("#"):
            anywhere = "**/" in line
            if any(fnmatch(Path(part).name if anywhere else part, pattern) for part in above):
                ignored = not line.startswith("!")
    return ignored


def test_the_image_gets_what_it_copies_and_no_secrets() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.M)
    sources = [source.rstrip("/") for line in copied for source in line.split()]
    assert {"pyproject.toml", "flows", "manifests"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists() and not is_ignored(source), source
        assert source == "pyproject.toml" or not (ROOT / source).is_file() or source.isupper() or source.endswith(".md")
    assert {file.parent.name for file in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"} <= set(sources)
    for secret in ("deploy/.env", ".env", "flows/.env.local", ".git/config", "store/a.lance", "checkpoints/a.pt", "demo/runs", "runs/ntf"):
        assert is_ignored(secret), secret
    assert not re.search(r"(?i)^(ENV|ARG).*(password|secret|auth)", DOCKERFILE, re.M)


def test_the_password_file_is_not_committed() -> None:
    assert "/deploy/.env" in (ROOT / ".gitignore").read_text().splitlines()
    named = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    example = dict(line.split("=", 1) for line in (DEPLOY / "example.env").read_text().splitlines() if line and not line.startswith("#"))
    assert set(example) == named
    assert example["POSTGRES_PASSWORD"] == "''"


def test_the_image_is_run_by_a_user_who_writes_to_tmp_and_data_alone() -> None:
    assert re.search(r"^USER 1000:1000$", DOCKERFILE, re.M)
    packages, code = DOCKERFILE.index("pip install --no-cache-dir -r"), DOCKERFILE.index("COPY foreign/")
    assert packages < code, "code that changed would have all packages fetched again"
    for variable in ("HOME", "PREFECT_HOME", "NTF_CACHE"):
        assert of_the_image(variable).startswith("/tmp")
    assert (of_the_image("NTF_CHECKPOINTS"), of_the_image("NTF_ALLOW_OUTSIDE")) == ("/data/checkpoints", "/data")


def test_every_image_is_pinned() -> None:
    images = [re.search(r"^FROM (\S+)", DOCKERFILE, re.M), *(re.match(r"(.*)", service["image"]) for service in COMPOSE.values())]
    images.append(re.match(r"(.*)", TEMPLATE["variables"]["properties"]["image"]["default"]))
    for image in images:
        assert image is not None and re.search(r":\d+\.\d+", image[1]), image
    versions = (ROOT / "pyproject.toml").read_text()
    (prefect,) = re.findall(r'"prefect==([\d.]+)"', versions)
    assert f"prefecthq/prefect:{prefect}-" in COMPOSE["server"]["image"]
    assert yaml.safe_load((ROOT / "prefect.yaml").read_text())["prefect-version"] == prefect


def test_the_server_has_a_password_for_all_letters_and_says_when_it_is_ready() -> None:
    server, database = COMPOSE["server"], COMPOSE["database"]
    assert server["environment"]["PREFECT_SERVER_DATABASE_PASSWORD"] == "${POSTGRES_PASSWORD}"
    assert not [value for value in server["environment"].values() if "://" in str(value) and "PASSWORD" in str(value)]
    assert server["environment"]["PREFECT_SERVER_UI_API_URL"] == "${ADDRESS:-http://127.0.0.1:4200}/api"
    assert server["ports"] == ["${BIND:-127.0.0.1}:4200:4200"]
    assert "/api/health" in server["healthcheck"]["test"][-1] and "pg_isready" in database["healthcheck"]["test"]
    for worker in (COMPOSE["worker"], COMPOSE["gpu-worker"]):
        assert worker["depends_on"] == {"server": {"condition": "service_healthy"}}
        mounted = [volume.split(":")[-2:] for volume in worker["volumes"]]
        assert [worker["environment"]["NTF_MANIFESTS"], "ro"] in mounted
    assert "deploy" not in COMPOSE["worker"] and COMPOSE["gpu-worker"]["deploy"]


def test_the_pods_have_few_rights_and_places_to_write() -> None:
    (container,) = POD["containers"]
    rights = container["securityContext"]
    assert (rights["readOnlyRootFilesystem"], rights["allowPrivilegeEscalation"], rights["capabilities"]) == (
        True,
        False,
        {"drop": ["ALL"]},
    )
    assert POD["securityContext"]["runAsNonRoot"] is True and POD["automountServiceAccountToken"] is False
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    for place in ("/tmp", "/dev/shm"):
        assert "emptyDir" in volumes[mounts[place]["name"]] and not mounts[place].get("readOnly")
    manifests = mounts[of_the_image("NTF_MANIFESTS")]
    assert manifests["readOnly"] is True and "configMap" in volumes[manifests["name"]]
    assert {"completions", "parallelism"} <= POD.keys()  # prefect-kubernetes refuses a template without them


def test_every_placeholder_of_the_template_is_a_variable() -> None:
    named = set(re.findall(r"\{\{ (\w+) \}\}", (DEPLOY / "kubernetes-job.yaml").read_text()))
    assert named == set(TEMPLATE["variables"]["properties"])
    assert TEMPLATE["variables"]["properties"]["gpus"]["default"] == 0


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_a_deployment_works_in_whatever_folder_its_run_is(deployment: dict[str, Any]) -> None:
    module, _, name = deployment["entrypoint"].rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    assert isinstance(flow, Flow) and flow.name == deployment["name"]
    parameters = flow.parameters.properties
    assert deployment["parameters"].keys() <= parameters.keys()
    for place in {"store", "output", "run"} & parameters.keys():
        assert Path(deployment["parameters"][place]).is_absolute()
    assert deployment["work_pool"]["job_variables"]["gpus"] in (0, 1)
    assert yaml.safe_load((ROOT / "prefect.yaml").read_text())["pull"] == []


def test_serve_and_pools_offer_the_same_flows() -> None:
    """A server may get them from both: then the later one must not leave half of the earlier one behind."""
    offered = {deployment.name: deployment.entrypoint for deployment in deployments("demo", "store", "runs", "auto", None)}
    assert offered == {deployment["name"]: deployment["entrypoint"] for deployment in DEPLOYMENTS}


def test_a_relative_store_in_a_folder_that_is_removed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "x")
    monkeypatch.setattr(lasting.tempfile, "gettempdir", lambda: str(tmp_path))
    inner = tmp_path / "tmpabcprefect" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    lasting.require_lasting(store="/data/store", output="s3://bucket/runs")
    with pytest.raises(InputError, match="output=runs is relative"):
        lasting.require_lasting(store="/data/store", output="runs")
    monkeypatch.chdir(tmp_path)
    lasting.require_lasting(store="store")  # as in a run of `ntf serve`
    monkeypatch.chdir(inner)
    monkeypatch.delenv("PREFECT__FLOW_RUN_ID")
    lasting.require_lasting(store="store")  # no run of a deployment
