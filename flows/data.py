"""Where data comes from: manifests by name, their plans, and detector data from the store or from a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from foreign.json_files import read_json
from foreign.text import visible
from generators.errors import InputError
from ntf_model.data.data import DetectionData, DetectionSplits
from ntf_model.data.reading.labels import LabelRule
from ntf_model.data.sources import evaluation_data, from_path
from ntf_model.runs import RUN_FILE
from pipelines.manifest.load import check_manifest, load_manifest
from pipelines.manifest.schema import Manifest
from pipelines.manifest.yaml_lines import Misread
from pipelines.plan.check import wrong_files
from pipelines.plan.plan import Plan, make_plan
from pipelines.reading import SplitTable, StoreDataset, VersionTable, deliveries_of, read_table
from pipelines.store import Store

MANIFESTS = "NTF_MANIFESTS"  # the folder that deployments take manifests from


def find_manifest(name: str | Path) -> Path:
    """A manifest's path: a file, or the name of one that ships with the project ("demo", "paper", "today"). InputError if there is none."""
    if _is_deployed():
        return _offered_manifest(str(name))
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    shipped = Path(str(resources.files("manifests"))) / f"{name}.yaml"
    if shipped.is_file() and str(name) != "checkpoints":
        return shipped
    raise InputError(f"there is no manifest {name}", "Give a YAML file, or `demo`, `paper` or `today`")


def _is_deployed() -> bool:
    """Whether this is a run of a deployment, whose parameters anyone can set who reaches the server."""
    if "prefect" not in sys.modules:
        return False
    from prefect.runtime import deployment

    return deployment.id is not None


def _offered_manifest(name: str) -> Path:
    """A manifest in the one folder that deployments take them from, by name or path, or one that ships. InputError for any other."""
    shipped = Path(str(resources.files("manifests"))).resolve()
    folder = Path(os.environ.get(MANIFESTS, shipped)).resolve()
    for place in (folder, shipped):
        for ending in ("", ".yaml"):
            path = (place / (name.replace("\0", "") + ending)).resolve()
            if path.is_relative_to(place) and path.is_file() and path.name != "checkpoints.yaml":
                return path
    raise InputError(f"there is no manifest {visible(name)} in {folder}", f"Put it there, or set {MANIFESTS} to its folder on the worker")


def checked_manifest(name: str | Path) -> tuple[Manifest | None, list[Misread]]:
    """A manifest and everything that is wrong with it or with the files that it names, in the order of its lines."""
    checked = check_manifest(find_manifest(name))
    problems = [*checked.problems, *wrong_files(checked)]
    return checked.manifest, sorted(problems, key=lambda problem: problem.line or 0)


def plan_of(manifest: str | Path, limit: int | None = None) -> Plan:
    """The plan of a manifest, with at most `limit` fakes in each part of a subset."""
    return make_plan(load_manifest(find_manifest(manifest)).limited(limit))


def detector_settings(manifest: Manifest) -> dict[str, Any]:
    """What the manifest says about the detector, as settings for `flows.judging.train_detector`."""
    return {"preset": manifest.detector.preset, "seed": manifest.detector.seed, **manifest.detector.config}


def deliveries_to_build(manifest: Manifest, asked: Iterable[str] | None = None) -> tuple[str, ...]:
    """The deliveries that a flow makes: those that are asked for, and those that the manifest's detector learns from."""
    return tuple(dict.fromkeys([*(asked or ()), *manifest.detector.deliveries]))


def splits_of_store(
    store: Store, version: int | str | None = None, where: str | None = None, deliveries: Sequence[str] = ()
) -> DetectionSplits:
    """The three splits of a version, as detectors take them. `where` is a SQL condition on the store's rows.

    The images of `deliveries` come into the training split, beside the clean ones, and into validation, so that what a training chooses
    fits them too. Test stays clean, and thresholds of an evaluation come from clean validation. InputError if there are none of such
    a name.
    """
    table = read_table(store, version, where)
    taught = read_table(store, version, where, also=deliveries) if deliveries else table
    origin = _origin(store, version, where)
    drawn = {**origin, **({"deliveries": list(deliveries)} if deliveries else {})}
    return DetectionSplits(
        _data(store, drawn, taught, taught.splits["train"]),
        _data(store, drawn, taught, taught.splits["validation"]),
        _data(store, origin, table, table.splits["test"]),
    )


def delivered_tests(store: Store, version: int | str | None = None, where: str | None = None) -> dict[str, DetectionData]:
    """The test split of each delivery that a version has images of, by name."""
    tests = {}
    for name in deliveries_of(store, version):
        table = read_table(store, version, where, delivery=name)
        tests[name] = _data(store, {**_origin(store, version, where), "delivery": name}, table, table.splits["test"])
    return {name: data for name, data in tests.items() if data.fake_subsets}


def _origin(store: Store, version: int | str | None, where: str | None) -> dict[str, Any]:
    number = store.dataset(version).version
    digest = next(entry.digest for entry in store.log() if entry.number == number)
    return {"name": store.name, "version": number, "store_digest": digest, **({"where": where} if where else {})}


def splits_of(
    data: str,
    root: Path,
    version: str | None = None,
    where: str | None = None,
    labels: str | None = None,
    groups: str = "auto",
    deliveries: Sequence[str] = (),
) -> DetectionSplits:
    """Detector data by name: a dataset of the store in `root`, or a folder: `real/` and `fake/`, WebDataset, or Hugging Face.

    For `deliveries` see `splits_of_store`. For a folder, `labels` says which names or values are which class (`real=A,fake=B`), and
    `groups` what stays in one split. InputError if they, or a version or condition, are given for data that have no use for them.
    """
    check_options(data, is_folder(data, root), version, where, labels, groups, deliveries)
    if is_folder(data, root):
        return from_path(Path(data), labels=LabelRule.parse(labels), groups=groups)
    return splits_of_store(Store(root, data), version, where, deliveries)


class EvaluatedOn(NamedTuple):
    """What detectors are evaluated on: pictures, those that thresholds are fixed on (None: none), the ids that scores may name, what is to
    be said of them, and the same pictures after each delivery, by its name."""

    test: DetectionData
    validation: DetectionData | None
    known: list[str]
    notes: list[str]
    delivered: Mapping[str, DetectionData] = MappingProxyType({})


def evaluation_of(
    data: str,
    root: Path,
    version: str | None = None,
    where: str | None = None,
    labels: str | None = None,
    groups: str = "auto",
    runs: Iterable[Path] = (),
) -> EvaluatedOn:
    """The test split of a dataset of the store, or of a folder; a folder without splits as a whole, as a further test set.

    `runs` are the folders of the detectors: where they were trained on that folder, what training set apart is the test split.
    """
    if is_folder(data, root):
        check_options(data, True, version, where, labels, groups)
        rule = LabelRule.parse(labels)
        chosen = evaluation_data(data, labels=rule, groups=groups, trained=[facts for run in runs if (facts := _trained_on(run))])
        parts = [part for part in (chosen.test, chosen.validation) if part is not None]
        known = dict.fromkeys([name for part in parts for name in part.picture_ids()] + chosen.others)
        notes = dict.fromkeys([f"evaluated on {chosen.said}", *(note for part in parts for note in part.notes)])
        return EvaluatedOn(chosen.test, chosen.validation, list(known), list(notes))
    splits = splits_of(data, root, version, where, labels, groups)
    everything = splits if where is None else splits_of(data, root, version)
    ids = [name for split in everything for name in split.picture_ids()]
    return EvaluatedOn(splits.test, splits.validation, ids, splits.notes, delivered_tests(Store(root, data), version, where))


def _trained_on(run: Path) -> tuple[str, str] | None:
    """The folder that a detector was trained on and the digest of all its splits; None if that is not recorded."""
    try:
        dataset = read_json(run / RUN_FILE)["dataset"]
        return str(dataset["folder"]), str(dataset["folder_digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_options(
    data: str,
    folder: bool,
    version: str | None,
    where: str | None,
    labels: str | None,
    groups: str,
    deliveries: Sequence[str] = (),
) -> None:
    """InputError for an option that would have no effect: nothing that is asked for is left out without a word."""
    of_store = {"--version": version, "--where": where, "--delivery": " ".join(deliveries) or None}
    useless = of_store if folder else {"--labels": labels, "--groups": None if groups == "auto" else groups}
    for option, value in useless.items():
        if value is not None:
            kind = "a folder" if folder else "a dataset of the store"
            raise InputError(f"{option} has no effect on {data}, which is {kind}", f"Leave {option} out")


def is_folder(data: str, root: Path) -> bool:
    """Whether `data` names a folder of images. A dataset of that name in the store goes before a folder.

    InputError for the folder that `ntf demo` made: it holds no images but a store, and its dataset has its name.
    """
    if not Path(data).is_dir() or Store(root, data).exists():
        return False
    inner = Path(data) / "store"
    if Path(data).name == data and inner.is_dir() and Store(inner, data).exists():
        raise InputError(f"there is no dataset {data!r} in {root}; the folder {data} holds a store that has it", f"Add --store {inner}")
    return True


class Subject(NamedTuple):
    """What a comparison is on: the name of a dataset of the store, or a folder, what a manifest says of its detectors, and the deliveries
    that these learn from."""

    name: str
    settings: dict[str, Any]
    deliveries: tuple[str, ...] = ()


def subject_of(data: str, root: Path) -> Subject:
    """What a comparison is on.

    `data` is that name or folder, or a manifest: a YAML file, or the name of one that ships with the project. A dataset that the store
    has goes before a manifest of its name. Raises InputError if it is none of them.
    """
    if Path(data).suffix not in (".yaml", ".yml") and (Path(data).is_dir() or Store(root, data).exists()):
        return Subject(data, {})
    try:
        manifest = load_manifest(find_manifest(data))
    except FileNotFoundError:
        raise InputError(f"there is no file {data}", "Give a manifest, a dataset of the store, or a folder") from None
    if not Store(root, manifest.dataset).exists():
        raise InputError(f"the dataset {manifest.dataset!r} of {data} is not in {root}", f"Make it first: `ntf build {data}`")
    return Subject(manifest.dataset, detector_settings(manifest), manifest.detector.deliveries)


def _data(store: Store, origin: dict[str, Any], table: VersionTable, split: SplitTable) -> DetectionData:
    dataset: Any = StoreDataset(store, origin["version"], split)  # its items have what an Item has; the rooms do not know each other
    facts: dict[str, Any] = {"ids": split.ids, "origin": origin, "originals": split.originals, "sha256s": split.sha256s}
    if "deliveries" not in origin:  # a training split that has clean and delivered pictures
        facts["deliveries"] = np.full(len(split), origin.get("delivery", "clean"))
    return DetectionData(dataset, split.labels, split.subsets, table.reals_of, table.families, split.digest, **facts)
