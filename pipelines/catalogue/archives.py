"""Single files out of zip archives, without unpacking the rest."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from generators.errors import InputError
from generators.files import whole_file
from pipelines.catalogue.transfer import BLOCK, require_space

MAX_MEMBERS = 100_000


def find_member(archive: zipfile.ZipFile, end: str) -> zipfile.ZipInfo | None:
    """The file in `archive` whose path ends in `end` ("people/latest_net_G.pth"), or None if there is none or more than one."""
    infos = [info for info in archive.infolist()[:MAX_MEMBERS] if f"/{info.filename}".endswith(f"/{end}") and not info.is_dir()]
    return infos[0] if len(infos) == 1 else None


def extract_member(path: Path, end: str, target: Path) -> str:
    """Writes the file in the zip archive `path` whose path ends in `end` to `target`, whole or not at all, and gives its sha256.

    Raises InputError if the archive is damaged, encrypted, or does not have exactly one such file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            info = find_member(archive, end)
            if info is None:
                raise InputError(f"{path} does not have exactly one file {end}", "It may be of another release")
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
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise InputError(f"{path} is no whole zip archive ({error})", "Fetch it again") from None
    except OSError as error:
        raise InputError(f"cannot unpack {path}: {error.strerror}", "Check the folder, its permissions and the disk") from None
