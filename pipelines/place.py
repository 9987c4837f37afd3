"""Where a store, or the outputs of flows, lie: a folder of this machine, or a prefix on an object storage.

Lance reads and writes both by URI. This is for the small files beside its datasets, through pyarrow's file systems. Both take the same
environment (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, ...); Lance wants `AWS_ALLOW_HTTP=true` too where the endpoint is plain http.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import lance
import pyarrow as pa
from pyarrow import fs

from generators.errors import InputError
from generators.files import write_bytes

MOST_LOOKED_UP = 100  # files; for more of them one listing of the folder is faster
_NOTHING = pa.table({"nothing": pa.array([], pa.int8())})
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
        files, path = self.filesystem
        return files.get_file_info(path).type != fs.FileType.NotFound

    def sizes(self) -> dict[str, int]:
        """Name and size in bytes of every file that lies directly here; nothing if the folder is not there."""
        if self.is_local:  # a store has ten thousands of data files, and pyarrow takes three times as long
            return dict(self._local_sizes())
        files, path = self.filesystem
        entries = files.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return {entry.base_name: entry.size for entry in entries if entry.type == fs.FileType.File}

    def _local_sizes(self) -> Iterator[tuple[str, int]]:
        with suppress(FileNotFoundError), os.scandir(self.location) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it has just been removed
                    if entry.is_file():
                        yield entry.name, entry.stat().st_size

    def sizes_of(self, names: Sequence[str]) -> dict[str, int]:
        """Name and size in bytes of those of these files that are there. Where they are few, the others are not looked at."""
        if len(names) > MOST_LOOKED_UP:
            return self.sizes()
        files, path = self.filesystem
        entries = files.get_file_info([f"{path}/{name}" for name in names])
        return {entry.base_name: entry.size for entry in entries if entry.type == fs.FileType.File}

    def ages(self) -> dict[str, timedelta]:
        """Name and time since the last change of every file that lies directly here."""
        files, path = self.filesystem
        now = datetime.now(UTC)
        entries = files.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return {entry.base_name: now - entry.mtime for entry in entries if entry.type == fs.FileType.File}

    def states(self) -> dict[str, tuple[datetime, int]]:
        """Name, time of the last change, and size in bytes of every file that lies directly here."""
        files, path = self.filesystem
        entries = files.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return {entry.base_name: (entry.mtime, entry.size) for entry in entries if entry.type == fs.FileType.File}

    def touch(self, names: Iterable[str]) -> None:
        """Makes local files look fresh; on an object storage, where nothing can be touched, it does nothing."""
        if self.is_local:
            for name in names:
                os.utime(f"{self.location}/{name}")

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None if it is not there."""
        files, path = self.filesystem
        try:
            with files.open_input_file(f"{path}/{name}") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Writes a file so that it appears whole or not at all, also after a power cut. Raises OSError."""
        if not self.is_local:
            files, path = self.filesystem
            with files.open_output_stream(f"{path}/{name}") as stream:  # an object appears when its upload is complete
                stream.write(data)
            return
        folder = Path(self.location)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file that is not there yet, whole or not at all; False if it is there. Of several processes one succeeds.

        pyarrow has no conditional write. Lance has one, on every storage that it knows: creating an empty dataset beside the file stands
        for it. Raises OSError.
        """
        if not self.is_local:
            try:
                version = lance.write_dataset(_NOTHING, f"{self.location}/{name}.claim", mode="create").version
            except OSError as error:
                if "already exists" in str(error) or "commit conflict" in str(error):
                    return False
                raise
            if version > 1:  # another process was faster, and Lance wrote ours as a version upon its
                return False
            self.write(name, data)
            return True
        folder = Path(self.location)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}.partial"
        try:
            partial.write_bytes(data)
            os.link(partial, folder / name)
        except FileExistsError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        return True

    def uncreate(self, name: str) -> None:
        """Removes a file that `create` made, so that it can be created again."""
        self.remove(name)
        if not self.is_local:
            files, path = self.filesystem
            with suppress(FileNotFoundError):
                files.delete_dir(f"{path}/{name}.claim")

    def remove(self, name: str) -> None:
        """Removes a file; one that is not there is no error."""
        files, path = self.filesystem
        with suppress(FileNotFoundError):
            files.delete_file(f"{path}/{name}")

    def lock_file(self, name: str) -> Path:
        """The file whose lock keeps a second builder out of a folder. It lies beside the dataset, so that all users see it."""
        return Path(self.location) / f"{name}.lock"

    @cached_property
    def filesystem(self) -> tuple[fs.FileSystem, str]:
        """pyarrow's file system and the path in it. InputError if there is none for the URI."""
        if self.is_local:
            return fs.LocalFileSystem(), self.location
        try:
            return fs.FileSystem.from_uri(self.location)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot use {self.location} ({str(error).splitlines()[0]})", "Give a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
            ) from None
