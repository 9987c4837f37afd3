"""Single files out of zip archives, without unpacking the rest. An archive may lie in another, as where a share hands out a folder of
archives as one."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from generators.errors import InputError
from generators.files import whole_file
from pipelines.catalogue.transfer import BLOCK, require_space

MAX_MEMBERS = 100_000
MAX_INNER = 100  # archives in an archive that are looked into
MAX_GROWTH = 20  # times its stored size that an archive in an archive may have: weights hardly compress, decompression bombs do
DAMAGED = (zipfile.BadZipFile, NotImplementedError, EOFError)


def find_member(archive: zipfile.ZipFile, end: str) -> zipfile.ZipInfo | None:
    """The file in `archive` whose path ends in `end` ("people/latest_net_G.pth"), or None if there is none or more than one."""
    infos = [info for info in archive.infolist()[:MAX_MEMBERS] if f"/{info.filename}".endswith(f"/{end}") and not info.is_dir()]
    return infos[0] if len(infos) == 1 else None


@contextmanager
def member_of(path: Path, end: str) -> Iterator[tuple[zipfile.ZipFile, zipfile.ZipInfo] | None]:
    """The one file whose path ends in `end` in the zip archive `path`, or else in one of the zip archives in it, with the archive that
    holds it; None if there is not exactly one. Damaged archives in it are passed over.

    Raises one of DAMAGED if `path` is no whole archive.
    """
    with ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(path))
        own = find_member(archive, end)
        holders = [(archive, own)] if own else []
        for info in [] if own else _inner_archives(archive):
            try:
                inner = stack.enter_context(zipfile.ZipFile(stack.enter_context(archive.open(info))))
            except DAMAGED:
                continue
            inside = find_member(inner, end)
            holders += [(inner, inside)] if inside else []
        yield holders[0] if len(holders) == 1 else None


def _inner_archives(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    inner = [info for info in archive.infolist()[:MAX_MEMBERS] if info.filename.lower().endswith(".zip") and not info.flag_bits & 1]
    return [info for info in inner if info.file_size <= MAX_GROWTH * info.compress_size][:MAX_INNER]


def extract_member(path: Path, end: str, target: Path) -> str:
    """Writes the file in the zip archive `path` whose path ends in `end` to `target`, whole or not at all, and gives its sha256.

    Raises InputError if the archive is damaged, encrypted, or has not exactly one such file, in it or in the archives in it.
    """
    try:
        with member_of(path, end) as place:
            if place is None:
                raise InputError(f"{path} does not have exactly one file {end}", "It may be of another release")
            archive, info = place
            if info.flag_bits & 1:
                raise InputError(f"{path} is encrypted", f"Unpack {end} by hand, and use `ntf fetch --from`")
            target.parent.mkdir(parents=True, exist_ok=True)
            require_space(target.parent, info.file_size)
            digest, left = hashlib.sha256(), info.file_size
            with archive.open(info) as source, whole_file(target) as partial, partial.open("wb") as out:
                while block := source.read(BLOCK):
                    left -= len(block)
                    if left < 0:
                        raise InputError(f"{path}: {end} is longer than the archive says", "Do not use this archive")
                    digest.update(block)
                    out.write(block)
            return digest.hexdigest()
    except DAMAGED as error:
        raise InputError(f"{path} is no whole zip archive ({error})", "Fetch it again") from None
    except OSError as error:
        raise InputError.unwritable(f"unpack {path}", error) from None
