"""The files in deploy/: runs of deployments take manifests from a folder that is mounted, read-only."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


def manifests_of_the_image() -> str:
    place = re.search(r"\bNTF_MANIFESTS=(\S+)", (DEPLOY / "Dockerfile").read_text())
    assert place is not None
    return place[1]


def test_the_pods_mount_the_folder_that_the_image_names() -> None:
    template = yaml.safe_load((DEPLOY / "kubernetes-job.yaml").read_text())
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    mount = next(mount for mount in pod["containers"][0]["volumeMounts"] if mount["mountPath"] == manifests_of_the_image())
    volume = next(volume for volume in pod["volumes"] if volume["name"] == mount["name"])
    assert mount["readOnly"] is True
    placeholder = volume["configMap"]["name"].strip("{} ")
    assert template["variables"]["properties"][placeholder]["default"] == "ntf-manifests"


def test_the_composed_worker_names_the_folder_that_it_mounts() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    worker = services["worker"]
    mounted = [volume.split(":")[-2:] for volume in worker["volumes"]]
    assert [worker["environment"]["NTF_MANIFESTS"], "ro"] in mounted
    assert services["server"]["ports"] == ["${BIND:-127.0.0.1}:4200:4200"]
