"""Checkpoints that a user adds: taken in whole, looked into safely, tried out once, and known by name from then on.

`registered.yaml` in the checkpoint folder lists them. An entry there stands before one of the same name that ships with the project, so
adding new weights under the name that a manifest uses makes exactly the shards of that checkpoint stale.

A file may also be dropped into `incoming/` with a note beside it (`FILE.yaml`: name, generator, licence, ...); `scan_incoming` finds it.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import yaml
from pyarrow import fs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from generators import registry
from generators.base import Generator, SampleRequest
from generators.checkpoints import Checkpoint, sha256_of
from generators.checkpoints.folders import folder_files
from generators.errors import CheckpointError, InputError
from generators.files import whole_file, whole_folder, write_bytes, write_text
from pipelines.catalogue.catalogue import REGISTERED_FILE, WITH_SECRETS, Catalogue, CheckpointEntry
from pipelines.images import encode
from pipelines.manifest import yaml_lines
from pipelines.manifest.schema import Codec, Name
from pipelines.place import Place

INCOMING = "incoming"
TEST_STEPS = 10  # of diffusion, for the test image
SETTLE_SECONDS = 5.0  # a file whose size and time have not changed for so long is whole


class Registration(BaseModel):
    """What has to be said of a checkpoint, because its file cannot say it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    generator: str
    licence: str = Field(min_length=1)
    trained_on: str | None = None
    components: dict[str, str] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Added:
    """A registered checkpoint: its name, its sha256, where it lies, and the picture that it made (None for one that only swaps)."""

    name: str
    generator: str
    sha256: str
    path: Path
    preview: Path | None


@dataclass(frozen=True)
class Arrival:
    """A file in `incoming/`. `waits_for` says what it waits for, "" if it can be registered now."""

    path: Path
    waits_for: str
    registration: Registration | None = None


def add_checkpoint(file: Path, registration: Registration, catalogue: Catalogue) -> Added:
    """Copies `file`, or of a folder the files that are read, into the checkpoint folder, loads it, makes a test image, and registers it.

    Nothing is registered, and nothing stays behind, if the file is not what its generator needs (CheckpointError), the name of the
    generator is not known (InputError), or anything else fails. The name of the copy holds its sha256, so what an older registration
    named stays where it is.
    """
    kind = registry.get(registration.generator)
    sha256 = sha256_of(file)
    suffix = "" if file.is_dir() else "".join(file.suffixes[-1:])
    kept = catalogue.folder / registration.generator / f"{registration.name}-{sha256[:12]}{suffix}"
    preview = kept.with_name(f"{kept.name.removesuffix(suffix)}.png")
    entry = CheckpointEntry(
        generators=(registration.generator,),
        file=kept.relative_to(catalogue.folder).as_posix(),
        how=f"added from {file.name}",
        trained_on=registration.trained_on,
        licence=registration.licence,
        sha256=sha256,
        components=registration.components,
        options=registration.options,
        added=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    absent = [place for place in (kept, preview) if not place.exists()]
    try:
        if kept in absent:
            _copy(file, kept)
        image = _test_image(kind, kept, registration, catalogue, file)
        if image is not None:
            write_bytes(preview, encode(image, Codec()))
        _write_entry(catalogue.folder, registration.name, entry)
    except BaseException:
        _remove(absent, kept.parent)
        raise
    return Added(registration.name, registration.generator, sha256, kept, preview if image is not None else None)


def _test_image(kind: type[Generator], kept: Path, registration: Registration, catalogue: Catalogue, file: Path) -> np.ndarray | None:
    """One image of the checkpoint, `uint8` RGB `[H, W, 3]`; None for a generator that needs more than a seed.

    CheckpointError if the checkpoint cannot be loaded or makes none, whatever the reason is but memory.
    """
    try:
        parts = {role: catalogue.checkpoint(name) for role, name in registration.components.items()}
        generator = kind.load(Checkpoint(kept, registration.options, parts))
        if "sample" not in generator.kinds:
            return None
        # Few steps, because this only shows that the generator runs, not how good its images are.
        few = {"steps": TEST_STEPS} if "steps" in kind.Parameters.model_fields else {}
        return generator.run(SampleRequest([0]), **few).images[0]
    except MemoryError:
        raise
    except Exception as error:  # a network of another form fails anywhere in its libraries
        if isinstance(error, KeyError) and error.args and error.args[0] in registration.components.values():
            message = f"component {error} is not listed"
        else:
            message = str(error) if isinstance(error, InputError) else f"it makes no image ({' '.join(str(error).split()) or repr(error)})"
        raise CheckpointError(f"{file} was not registered: {message}") from None


def _remove(places: list[Path], folder: Path) -> None:
    """Takes away what a failed registration has written, and its folder if that is empty."""
    for place in places:
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def scan_incoming(incoming: Path, settle: float = SETTLE_SECONDS) -> list[Arrival]:
    """What lies in the folder `incoming`, and what each file waits for: to be whole, or to be described."""
    arrivals = []
    for file in sorted(incoming.iterdir()) if incoming.is_dir() else []:
        if file.suffix in (".yaml", ".partial") or file.name.startswith(".") or not file.is_file():
            continue
        note = file.with_name(file.name + ".yaml")
        age = time.time() - file.stat().st_mtime
        if age < settle:
            arrivals.append(Arrival(file, f"being copied: it changed {age:.0f} s ago"))
        elif not note.is_file():
            arrivals.append(Arrival(file, f"no {note.name} beside it (name, generator, licence)"))
        else:
            arrivals.append(_described(file, note))
    return arrivals


def bring_incoming(place: Place, folder: Path) -> list[str]:
    """Copies the described files of `place`, on an object storage, to `folder/incoming/`, and gives their names.

    An object is whole as soon as it is there, so nothing has to settle. What has been copied already is not copied again. InputError if
    the storage cannot be read.
    """
    incoming = folder / INCOMING
    try:
        sizes = place.sizes()
        names = [name for name in sorted(sizes) if not name.endswith((".yaml", ".partial")) and f"{name}.yaml" in sizes]
        remote, path = place.filesystem
        for name in names:
            for file in (name, f"{name}.yaml"):
                here = incoming / file
                if here.is_file() and here.stat().st_size == sizes[file]:
                    continue
                incoming.mkdir(parents=True, exist_ok=True)
                with whole_file(here) as partial:
                    fs.copy_files(f"{path}/{file}", str(partial), remote, fs.LocalFileSystem())
                os.utime(here, (time.time() - SETTLE_SECONDS,) * 2)
    except OSError as error:
        raise InputError(
            f"cannot read {place.location}: {str(error).splitlines()[0][:200]}", "Check the network, the bucket and the credentials"
        ) from None
    return names


def take_incoming(catalogue: Catalogue, settle: float = SETTLE_SECONDS) -> tuple[list[Added], list[Arrival]]:
    """Registers every file that is whole and described in `incoming/`, or in the folder or object storage that NTF_INCOMING names.

    Gives those, and what the others wait for. See `take_from`.
    """
    place = Place.of(os.environ.get("NTF_INCOMING") or str(catalogue.folder / INCOMING))
    if place.is_local:
        return take_from(Path(place.location), catalogue, settle)
    brought = bring_incoming(place, catalogue.folder)
    added, waiting = take_from(catalogue.folder / INCOMING, catalogue, settle)
    for name in brought:
        if not (catalogue.folder / INCOMING / name).exists():  # it is registered
            for file in (name, f"{name}.yaml"):
                place.remove(file)
    alone = [name for name in place.sizes() if not name.endswith((".yaml", ".partial")) and name not in brought]
    waiting += [Arrival(Path(name), f"no {name}.yaml beside it in {place.location} (name, generator, licence)") for name in sorted(alone)]
    return added, waiting


def take_from(incoming: Path, catalogue: Catalogue, settle: float = SETTLE_SECONDS) -> tuple[list[Added], list[Arrival]]:
    """Registers every file of the folder `incoming` that is whole and described; gives those, and what the others wait for.

    A file that cannot be registered stays, and says why, without keeping the others from being taken.
    """
    added, waiting = [], []
    for arrival in scan_incoming(incoming, settle):
        if arrival.registration is None:
            waiting.append(arrival)
            continue
        try:
            added.append(add_checkpoint(arrival.path, arrival.registration, catalogue))
        except InputError as error:
            waiting.append(Arrival(arrival.path, str(error)))
            continue
        arrival.path.unlink()
        arrival.path.with_name(arrival.path.name + ".yaml").unlink()
    return added, waiting


def read_registration(file: Path) -> Registration:
    """Reads the note beside a dropped file. InputError names the line and the key that is wrong."""
    data, lines = yaml_lines.load_mapping(file)
    try:
        return Registration.model_validate(data)
    except ValidationError as error:
        # A misspelt key is two errors: an unknown key and a missing one. The unknown one is told.
        first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
        line = yaml_lines.line_of(lines, first["loc"])
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{file}, line {line}: {key}: {first['msg']}", "It needs name, generator and licence") from None


def _described(file: Path, note: Path) -> Arrival:
    try:
        return Arrival(file, "", read_registration(note))
    except InputError as error:
        return Arrival(file, str(error))


def _copy(file: Path, kept: Path) -> None:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            with whole_folder(kept) as partial:
                for name in folder_files(file):
                    (partial / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file / name, partial / name)
            return
        with whole_file(kept) as partial:
            shutil.copyfile(file, partial)
    except OSError as error:
        raise InputError.unwritable(f"copy {file} to {kept.parent}", error) from None


def _write_entry(folder: Path, name: str, entry: CheckpointEntry) -> None:
    path = folder / REGISTERED_FILE
    with filelock.FileLock(path.with_suffix(".lock")):
        data = yaml_lines.load_mapping(path)[0] if path.exists() else {}
        data[name] = entry.model_dump(mode="json", exclude_defaults=True, context={WITH_SECRETS: True})
        write_text(path, yaml.safe_dump(data, sort_keys=True))
