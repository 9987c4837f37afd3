"""Where a store lies: a folder of this machine, or a prefix on an object storage.

Lance reads and writes both by URI. This is for the small files beside its datasets, through pyarrow's file systems. Both take the same
environment (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, ...); Lance wants `AWS_ALLOW_HTTP=true` too where the endpoint is plain http.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from pyarrow import fs

from generators.errors import InputError
from generators.files import write_bytes
from pipelines.files import cache_folder

_URI = re.compile(r"^([a-z][a-z0-9+]*):/{1,2}(?=[^/])")


@dataclass(frozen=True)
class Place:
    """A folder, local or remote, as a path or a URI without a slash at its end."""

    location: str

    @classmethod
    def of(cls, root: Path | str) -> Place:
        """`root` as a place. A URI that went through `Path` has lost one of its two slashes, and gets it back."""
        text = str(root)
        return cls(_URI.sub(r"\1://", text).rstrip("/") if _URI.match(text) else text)

    @property
    def is_local(self) -> bool:
        return "://" not in self.location

    def child(self, name: str) -> Place:
        return Place(f"{self.location}/{name}")

    def is_there(self) -> bool:
        files, path = self._files
        return files.get_file_info(path).type != fs.FileType.NotFound

    def sizes(self) -> dict[str, int]:
        """Name and size in bytes of every file that lies directly here; nothing if the folder is not there."""
        files, path = self._files
        entries = files.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return {entry.base_name: entry.size for entry in entries if entry.type == fs.FileType.File}

    def ages(self) -> dict[str, timedelta]:
        """Name and time since the last change of every file that lies directly here."""
        files, path = self._files
        now = datetime.now(UTC)
        entries = files.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return {entry.base_name: now - entry.mtime for entry in entries if entry.type == fs.FileType.File}

    def touch(self, names: Iterable[str]) -> None:
        """Makes local files look fresh; on an object storage, where nothing can be touched, it does nothing."""
        if self.is_local:
            for name in names:
                os.utime(f"{self.location}/{name}")

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None if it is not there."""
        files, path = self._files
        try:
            with files.open_input_file(f"{path}/{name}") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Writes a file so that it appears whole or not at all, also after a power cut. Raises OSError."""
        if not self.is_local:
            files, path = self._files
            with files.open_output_stream(f"{path}/{name}") as stream:  # an object appears when its upload is complete
                stream.write(data)
            return
        folder = Path(self.location)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / name, data)

    def remove(self, name: str) -> None:
        """Removes a file; one that is not there is no error."""
        files, path = self._files
        with suppress(FileNotFoundError):
            files.delete_file(f"{path}/{name}")

    def lock_file(self, name: str) -> Path:
        """The file whose lock keeps a second builder out.

        It lies beside the dataset where that is local, so that all users of the folder see it. An object storage has no locks: there
        it lies in this machine's own state folder, and keeps out builders on this machine alone; see `Store.commit` for those on others.
        """
        if self.is_local:
            return Path(self.location) / f"{name}.lock"
        state = cache_folder() / "locks"
        state.mkdir(parents=True, exist_ok=True)
        return state / f"{hashlib.sha256(f'{self.location}/{name}'.encode()).hexdigest()[:32]}.lock"

    @cached_property
    def _files(self) -> tuple[fs.FileSystem, str]:
        if self.is_local:
            return fs.LocalFileSystem(), self.location
        try:
            return fs.FileSystem.from_uri(self.location)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot use {self.location} ({str(error).splitlines()[0]})", "Give a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
            ) from None
