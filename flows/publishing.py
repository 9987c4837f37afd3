"""Publishing a version on the Hugging Face Hub: the licences first, then the repository, the files, and the upload."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version as package_version

from flows.data import find_manifest
from foreign.progress import Progress, silent
from generators.errors import InputError
from pipelines.export import Export, export
from pipelines.export.export import Allowed, require_licences
from pipelines.export.publish import Published, Repository
from pipelines.files import cache_folder
from pipelines.manifest.load import load_manifest
from pipelines.manifest.publication import Publication
from pipelines.store import Store


@dataclass(frozen=True)
class Publishing:
    """What was published, and where."""

    published: Published
    images: int
    licences: dict[str, str]
    unstated: tuple[str, ...]


def publish(
    store: Store,
    repository: Repository,
    wanted: Export,
    version: int | str | None = None,
    public: bool = False,
    on_progress: Progress = silent,
) -> Publishing:
    """Publishes a version. What a killed call prepared or uploaded is not prepared or uploaded again.

    Raises InputError if a licence forbids it, a public repository would take what may be private, or the Hub refuses.
    """
    if public and wanted.use == "private":
        raise InputError("--use private and --public contradict each other", "Leave one of them out")
    allowed = require_licences(store, wanted, version)
    repository.open(public)
    folder = cache_folder() / "publish" / _key(store, allowed, wanted)
    if not folder.is_dir():
        export(store, folder, wanted, allowed.version.number, on_progress)
    message = f"{store.name}, version {allowed.version.number}, digest {allowed.version.digest}"
    published = repository.upload(folder, message, on_progress)
    shutil.rmtree(folder, ignore_errors=True)
    return Publishing(published, len(allowed.selection), allowed.licences, unstated(allowed.publication))


def stated_in(manifest: str | None, dataset: str) -> Publication | None:
    """The block `publish` of a manifest, by name or file; None for no manifest. InputError if it is the manifest of another dataset."""
    if manifest is None:
        return None
    loaded = load_manifest(find_manifest(manifest))
    if loaded.dataset != dataset:
        raise InputError(f"{manifest} is the manifest of {loaded.dataset}, not of {dataset}", "Name the manifest of this dataset")
    return loaded.publish


def unstated(publication: Publication) -> tuple[str, ...]:
    """What readers of a dataset look for and the manifest does not state."""
    return tuple(name for name in ("creators", "contact", "licence", "citation") if not getattr(publication, name))


def _key(store: Store, allowed: Allowed, wanted: Export) -> str:
    """The name of the folder of what is prepared: the same for the same files."""
    facts = {**asdict(wanted), "publication": allowed.publication.model_dump(mode="json")}
    facts |= {"store": store.uri, "version": allowed.version.number, "digest": allowed.version.digest}
    facts |= {"program": package_version("natural-trace-foundry")}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
