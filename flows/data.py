"""Where data comes from: manifests by name, their plans, and detector data from the store or from a folder."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from generators.errors import InputError
from ntf_model.data.data import DetectionData, DetectionSplits
from ntf_model.data.sources import from_path
from pipelines.manifest.load import load_manifest
from pipelines.manifest.schema import Manifest
from pipelines.plan.plan import Plan, make_plan
from pipelines.reading import SplitTable, StoreDataset, VersionTable, read_table
from pipelines.store import Store


def find_manifest(name: str | Path) -> Path:
    """A manifest's path: a file, or the name of one that ships with the project ("demo", "paper"). InputError if there is none."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    shipped = Path(str(resources.files("manifests"))) / f"{name}.yaml"
    if shipped.is_file() and str(name) != "checkpoints":
        return shipped
    raise InputError(f"there is no manifest {name}", "Give a YAML file, or `demo` or `paper`")


def plan_of(manifest: str | Path, limit: int | None = None) -> Plan:
    """The plan of a manifest, with at most `limit` fakes in each part of a subset."""
    return make_plan(load_manifest(find_manifest(manifest)).limited(limit))


def detector_settings(manifest: Manifest) -> dict[str, Any]:
    """What the manifest says about the detector, as settings for `flows.judging.train_detector`."""
    return {"preset": manifest.detector.preset, "seed": manifest.detector.seed, **manifest.detector.config}


def splits_of_store(store: Store, version: int | str | None = None, where: str | None = None) -> DetectionSplits:
    """The three splits of a version, as detectors take them. `where` is a SQL condition on the store's rows."""
    table = read_table(store, version, where)
    number = store.dataset(version).version
    return DetectionSplits(*(_data(store, number, table, table.splits[split]) for split in ("train", "validation", "test")))


def splits_of(data: str, root: Path, version: str | None = None, where: str | None = None) -> DetectionSplits:
    """Detector data by name: a dataset of the store in `root`, or a folder: `real/` and `fake/`, WebDataset, or Hugging Face."""
    if is_folder(data, root):
        return from_path(Path(data))
    return splits_of_store(Store(root, data), version, where)


def is_folder(data: str, root: Path) -> bool:
    """Whether `data` names a folder of images. A dataset of that name in the store goes before a folder."""
    return Path(data).is_dir() and not Store(root, data).exists()


def subject_of(data: str, root: Path) -> tuple[str, dict[str, Any]]:
    """What a comparison is on: the name of a dataset of the store, or a folder, and what a manifest says of its detectors.

    `data` is that name or folder, or a manifest: a YAML file, or the name of one that ships with the project. A dataset that the store
    has goes before a manifest of its name. Raises InputError if it is none of them.
    """
    if Path(data).suffix not in (".yaml", ".yml") and (Path(data).is_dir() or Store(root, data).exists()):
        return data, {}
    try:
        manifest = load_manifest(find_manifest(data))
    except FileNotFoundError:
        raise InputError(f"there is no file {data}", "Give a manifest, a dataset of the store, or a folder") from None
    if not Store(root, manifest.dataset).exists():
        raise InputError(f"the dataset {manifest.dataset!r} of {data} is not in {root}", f"Make it first: `ntf build {data}`")
    return manifest.dataset, detector_settings(manifest)


def _data(store: Store, version: int, table: VersionTable, split: SplitTable) -> DetectionData:
    dataset: Any = StoreDataset(store, version, split)  # its items have what an Item has; the rooms do not know each other
    return DetectionData(dataset, split.labels, split.subsets, table.reals_of, table.families, split.digest, split.ids)
