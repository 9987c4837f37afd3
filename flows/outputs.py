"""The folder of detectors, results and reports of one dataset, on this machine or on an object storage.

Training and evaluating write files, so for an object storage there is a working folder in this machine's cache: what a flow needs is copied
there first, and what it made is copied back as soon as it is whole. So a run in a new container does not train again what was trained.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pyarrow import fs

from generators.errors import InputError
from pipelines.files import cache_folder
from pipelines.place import Place


class Outputs:
    """`OUTPUT/DATASET`. `folder` is where its files are on this machine."""

    def __init__(self, output: str, dataset: str):
        self.place = Place.of(output).child(dataset)
        if self.place.is_local:
            self.folder = Path(self.place.location)
        else:
            self.folder = cache_folder() / "outputs" / hashlib.sha256(self.place.location.encode()).hexdigest()[:16] / dataset

    def take(self, *names: str) -> None:
        """Brings files or folders from the object storage. A file that is not there is removed here too; a folder stays as it is.

        InputError if the storage cannot be read.
        """
        if self.place.is_local:
            return
        remote, path = self.place.filesystem
        for name in names:
            try:
                kind = remote.get_file_info(f"{path}/{name}").type
                if kind == fs.FileType.NotFound:
                    if not (self.folder / name).is_dir():
                        (self.folder / name).unlink(missing_ok=True)
                    continue
                self.folder.mkdir(parents=True, exist_ok=True)
                fs.copy_files(f"{path}/{name}", str(self.folder / name), remote, fs.LocalFileSystem())
            except OSError as error:
                raise self._error("read", error) from None

    def keep(self, *names: str) -> None:
        """Copies files or folders to the object storage, in this order. InputError if it cannot be written."""
        if self.place.is_local:
            return
        remote, path = self.place.filesystem
        for name in names:
            if not (self.folder / name).exists():
                continue
            try:
                fs.copy_files(str(self.folder / name), f"{path}/{name}", fs.LocalFileSystem(), remote)
            except OSError as error:
                raise self._error("write", error) from None

    def uri(self, name: str) -> str:
        """Where a file is for people: a `file:` URI, or its place on the object storage."""
        return (self.folder / name).resolve().as_uri() if self.place.is_local else f"{self.place.location}/{name}"

    def _error(self, act: str, error: OSError) -> InputError:
        reason = str(error).splitlines()[0][:200]
        return InputError(f"cannot {act} {self.place.location}: {reason}", "Check the network, the bucket and the credentials")
