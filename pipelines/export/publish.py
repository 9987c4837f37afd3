"""Putting an export onto the Hugging Face Hub as a dataset repository, through `huggingface_hub`.

Large files go up a few at a time, and one commit then switches the repository from what it had to the new version: whoever reads it sees
one or the other. What was uploaded before a kill is on the Hub already, under its sha256, and is not sent again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError

from foreign.progress import Progress, silent
from foreign.text import reason
from generators.errors import InputError

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # organisation and name
BATCH_FILES = 8  # that go up before the next ones; a kill loses at most so many
MOST_FILES = 25_000  # large files in one commit of the Hub
KEPT = ".gitattributes"  # the Hub's own file


@dataclass(frozen=True)
class Published:
    """Where a dataset is now: the repository's address, the commit, whether it is private, how many files it has and how many it lost.
    `changed` is whether there was anything to commit."""

    url: str
    commit: str
    private: bool
    files: int
    removed: int
    changed: bool


class Repository:
    """A dataset repository on the Hub, by its name ORGANISATION/NAME. Opening it asks nothing of the Hub.

    Raises InputError if that is no such name.
    """

    def __init__(self, name: str, api: HfApi | None = None):
        if not NAME.fullmatch(name):
            raise InputError(f"{name!r} is no name of a repository", "Write ORGANISATION/NAME, such as my-lab/faces")
        self.name = name
        self._api = api or HfApi(library_name="natural-trace-foundry")

    def open(self, public: bool) -> bool:
        """Makes the repository if it is not there, private unless `public`. Returns whether it is private.

        InputError if it is there and public although that was not asked for, or the Hub refuses.
        """
        with self._explained("open"):
            try:
                private = bool(self._api.dataset_info(self.name).private)
            except RepositoryNotFoundError:
                self._api.create_repo(self.name, repo_type="dataset", private=not public)
                return not public
        if not private and not public:
            raise InputError(f"{self.name} is there already, and everybody can read it", "Give --public, or another name")
        return private

    def upload(self, folder: Path, message: str, on_progress: Progress = silent) -> Published:
        """Makes the repository's files those of `folder`, in one commit; files that are not in it are removed. Call `open` before.

        InputError if the Hub refuses, or the network fails: what was sent until then need not be sent again.
        """
        files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        if len(files) > MOST_FILES:
            raise InputError(f"{len(files):,} files are too many for one commit", "Publish with --to parquet or webdataset")
        with self._explained("write"):
            there = self._api.dataset_info(self.name)
            old = {file.rfilename for file in there.siblings or ()} - {KEPT}
            additions = [CommitOperationAdd(file, folder / file) for file in files]
            for done in range(0, len(files), BATCH_FILES):
                on_progress(done, len(files), files[done])
                batch = additions[done : done + BATCH_FILES]
                self._api.preupload_lfs_files(self.name, batch, repo_type="dataset", free_memory=False)
            removed = sorted(old - set(files))
            operations: list[CommitOperationAdd | CommitOperationDelete] = [*additions, *map(CommitOperationDelete, removed)]
            commit = self._api.create_commit(
                self.name, operations, repo_type="dataset", commit_message=message, parent_commit=there.sha if old else None
            )
            on_progress(len(files), len(files), "committed")
        url = f"{self._api.endpoint}/datasets/{self.name}"
        return Published(url, commit.oid, bool(there.private), len(files), len(removed), commit.oid != there.sha)

    @contextmanager
    def _explained(self, act: str) -> Iterator[None]:
        """What the Hub, its library or the network refuses, as one line."""
        try:
            yield
        except InputError:
            raise
        except OfflineModeIsEnabled:
            raise InputError(f"cannot {act} {self.name}: HF_HUB_OFFLINE is set", "Unset it, and run the same command again") from None
        except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            fix = "Check the network, and run the same command again: it goes on where it stopped"
            if status in (401, 403):
                fix = "Sign in with `hf auth login` and a token that may write, and check the name of the organisation"
            raise InputError(f"cannot {act} {self.name} on the Hub: {reason(error)}", fix) from None
