"""Where everything comes from: checkpoints, seeds, digests, packages, and the configuration of each run."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pipelines.report.inputs import Run
from pipelines.report.source import Section, Source


def view(source: Source) -> dict[str, Any]:
    used: Counter[tuple[str, str, str]] = Counter()
    for row in source.rows:
        if row.role == "final":
            used.update({(link["generator"], link["checkpoint"], link["identity"]["sha256"]) for link in row.chain})
    properties, manifest = source.version.properties, source.manifest
    facts = {
        "digest of the version": source.version.digest,
        "made": source.version.created.strftime("%Y-%m-%d %H:%M:%S"),
        "by build": properties.get("run_id", ""),
        "with ntf": properties.get("ntf", ""),
        "on": properties.get("device", ""),
        "seed of the manifest": str(manifest.seed),
        "seed of the splits": str(manifest.splits.seed),
        "page written with Python": platform.python_version(),
    }
    return {
        "checkpoints": [(generator, name, sha256, images) for (generator, name, sha256), images in sorted(used.items())],
        "facts": {name: value for name, value in facts.items() if value},
        "manifest": json.dumps(manifest.model_dump(mode="json", exclude_defaults=True), indent=1),
        "runs": [_run(run) for run in source.inputs.runs],
    }


def _run(run: Run) -> dict[str, Any]:
    record = run.record or {}
    environment = record.get("environment", {})
    packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())
    splits = {name: split for name, split in record.get("dataset", {}).items() if isinstance(split, Mapping)}
    facts = {
        "folder": run.folder.name,
        "seed": record.get("seed"),
        "data": ", ".join(f"{name}: {split['images']} images, digest {split['digest'][:16]}" for name, split in splits.items()),
        "evaluated on": f"digest {run.evaluation['data_digest'][:16]}",
        "Python": environment.get("python"),
        "packages": packages,
        "device": environment.get("device"),
    }
    config = record.get("config")
    return {
        "title": run.evaluation["title"],
        "facts": {name: value for name, value in facts.items() if value not in (None, "")},
        "config": json.dumps(config, indent=1) if config else "",
    }


SECTION = Section("lineage", "Environment and lineage", view)
