"""Folders of the Hugging Face Hub: the files that are read, at one commit, under the folder's name only when all are there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from foreign.errors import OF_THE_DISK
from generators.checkpoints import sha256_of
from generators.checkpoints.folders import INDEX, read_object, select_files
from generators.errors import CheckpointError
from pipelines.catalogue.addresses import TransferError
from pipelines.catalogue.transfer import RETRIES, WAITS, Watch, partial_of

TIMEOUT = 30.0  # seconds for a listing
TOKEN_ADVICE = "Accept its terms on its page, then log in with `hf auth login` or set HF_TOKEN"
_LATER = "Run the same command again later: it goes on where it was"


@dataclass(frozen=True)
class HubFolder:
    """The files of a repository that are read, at the commit `revision`: bytes and, where the Hub says it, sha256 by relative name."""

    repository: str
    revision: str
    sizes: Mapping[str, int]
    sha256s: Mapping[str, str]

    @property
    def size(self) -> int:
        return sum(self.sizes.values())


def list_folder(repository: str, revision: str | None, variant: str | None, folder: Path, waits: tuple[float, ...] = WAITS) -> HubFolder:
    """What is to be fetched of `repository` to `folder`. Only its model_index.json, if it has one, is fetched for that.

    Raises TransferError if the repository is gated, not there, or cannot be reached.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise TransferError(f"{repository} is not asked for: HF_HUB_OFFLINE is set", "Unset it to fetch from the Hub")
    info: Any = _patiently(
        lambda: HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=TIMEOUT), repository, waits
    )
    files = {entry.rfilename: entry for entry in info.siblings}
    unsafe = [name for name in files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name]
    if unsafe:
        raise TransferError(f"{repository} lists the file {unsafe[0]!r}, which would leave its folder", "Do not use this repository")
    index = None
    if INDEX in files:
        index = read_object(_patiently(lambda: _fetch(repository, INDEX, info.sha, partial_of(folder), None), repository, waits))
    chosen = select_files(files, index, variant)
    if not chosen:
        raise TransferError(f"{repository} holds nothing that is read", "Look on its page what it is")
    sums = {name: files[name].lfs.sha256 for name in chosen if files[name].lfs}
    return HubFolder(repository, info.sha, {name: files[name].size or 0 for name in chosen}, sums)


def fetch_folder(listed: HubFolder, folder: Path, watch: Watch, jobs: int = 4, waits: tuple[float, ...] = WAITS) -> dict[str, str]:
    """Fetches the files to `folder` and gives the sha256 of each, by relative name. They lie in `folder.partial` until all are there.

    Raises TransferError if one cannot be had or is not what the Hub says it is.
    """
    partial = partial_of(folder)

    def one(name: str) -> tuple[str, str]:
        if watch.stop.is_set():
            raise KeyboardInterrupt
        file = _patiently(lambda: _fetch(listed.repository, name, listed.revision, partial, watch), listed.repository, waits)
        digest, wanted = sha256_of(file), listed.sha256s.get(name)
        if wanted and digest != wanted:
            file.unlink()
            raise TransferError(f"{listed.repository}: {name} came with another sha256 than the Hub states", _LATER)
        return name, digest

    watch.expect(listed.size)
    with _quiet_hub(), ThreadPoolExecutor(jobs) as pool:
        sums = dict(pool.map(one, listed.sizes))
    _tidy(partial, set(sums))
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    os.sync()
    partial.rename(folder)
    return sums


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Without the library's own lines, such as the one about the half-written notes of a killed run, which it then mends by itself."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _fetch(repository: str, name: str, revision: str, folder: Path, watch: Watch | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import tqdm

    class Reporter(tqdm):
        def __init__(self, *arguments: Any, **options: Any):
            super().__init__(*arguments, **{**options, "disable": True})
            if watch:
                watch.advance(int(options.get("initial") or 0))

        def update(self, n: float | None = 1) -> None:
            if watch:
                watch.advance(int(n or 0))
                if watch.stop.is_set():
                    raise KeyboardInterrupt

    return Path(hf_hub_download(repository, name, revision=revision, local_dir=folder, tqdm_class=Reporter))


def _patiently(ask: Callable[[], Any], repository: str, waits: tuple[float, ...]) -> Any:
    """`ask()`, again after a fault of the network or the service. What cannot pass is a TransferError of one line."""
    import time

    import httpx2
    from huggingface_hub import errors

    from pipelines.catalogue.hub_pace import hold_to_pace

    last = ""
    for wait in (*waits[: RETRIES - 1], None):
        try:
            hold_to_pace()
            return ask()
        except errors.GatedRepoError:
            raise TransferError(f"{repository} is gated: its owner asks for consent first", TOKEN_ADVICE) from None
        except errors.RevisionNotFoundError:
            raise TransferError(f"{repository} has no such revision", "Name another `revision`") from None
        except errors.RepositoryNotFoundError:
            raise TransferError(f"{repository} is not on the Hub, or is private", "Check its name. If it is private, log in") from None
        except errors.EntryNotFoundError as error:
            if not isinstance(error, errors.LocalEntryNotFoundError):
                raise TransferError(f"{repository} lacks a file that it lists", _LATER) from None
            last = str(error)
        except errors.HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (401, 403):
                raise TransferError(f"{repository} refuses access ({status})", TOKEN_ADVICE) from None
            if 400 <= status < 500 and status not in (408, 429):
                raise TransferError(f"{repository} cannot be had ({status})", "Look on its page") from None
            last = f"the Hub answers {status}"
        except CheckpointError:
            raise
        except (httpx2.HTTPError, OSError) as error:
            _require_no_disk_fault(error, repository)
            last = str(error).split("\n", 1)[0] or type(error).__name__
        if wait is not None:
            time.sleep(wait)
    raise TransferError(f"{repository} cannot be fetched: {' '.join(last.split())[:200]}", _LATER) from None


def _require_no_disk_fault(error: Exception, repository: str) -> None:
    """Raises TransferError for a fault of a path or a disk, which the next try would only meet again."""
    if isinstance(error, OSError) and error.errno in OF_THE_DISK:
        place = f" to {error.filename}" if error.filename else ""
        raise TransferError.unwritable(f"write {repository}{place}", error)


def _tidy(folder: Path, kept: set[str]) -> None:
    """Takes away what is not read: the notes of the download, and files of a commit before."""
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        if file.relative_to(folder).as_posix() not in kept:
            file.unlink()
