"""Folders of the Hub that a person fetched: by `git clone`, `hf download --local-dir`, or in the Hub's own cache, whose files are links."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from foreign.archives import ARCHIVE_ENDINGS
from foreign.files import open_plain
from generators.checkpoints import sha256_of_listing
from generators.checkpoints.files import LFS
from generators.checkpoints.folders import INDEX, find_weights, folder_files, read_object
from generators.errors import InputError
from generators.files import whole_folder
from pipelines.catalogue.archives import DAMAGED, MAX_MEMBERS
from pipelines.catalogue.transfer import BLOCK, require_space

MAX_DEPTH = 4
MAX_FOLDERS = 10_000
CACHE = "models--"  # what a repository's folder in the Hub's cache begins with
_MARKS = {INDEX, "config.json"}  # one of them lies in every saved folder
_COPY = re.compile(r"(?: ?\(\d+\)|-\d| - Copy|-main)$")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Taken:
    """What was copied to its place: its sha256 and, of a folder, that of each of its files and the Hub's commit if the folder tells it."""

    sha256: str
    files: dict[str, str]
    revision: str | None


def folders_below(folder: Path) -> list[Path]:
    """`folder` and the folders in it, to a depth, hidden ones and links left out. InputError if there are far too many."""
    level = folders = [folder]
    for _ in range(MAX_DEPTH):
        level = [entry for place in level for entry in sorted(place.iterdir()) if _is_plain_folder(entry)]
        folders = [*folders, *level]
        if len(folders) > MAX_FOLDERS:
            raise InputError(f"{folder} holds more than {MAX_FOLDERS:,} folders", "Put what you fetched into a folder of its own")
    return folders


def find_folder(repository: str, variant: str | None, folders: list[Path]) -> tuple[Path | None, list[str]]:
    """The folder among `folders` that has the name of `repository` and its weights; and why those of its name are not it."""
    doubts = []
    for named, place in _candidates(repository, folders):
        problem = _problem(place, named, variant)
        if not problem:
            return place, []
        doubts.append(f"{place} has the name of {repository}, {problem}")
    return None, doubts


def packed_folders(repository: str, files: list[Path]) -> list[str]:
    """Why the archives among `files` that hold the folder of `repository`, or have its name, are not taken: in one line each."""
    titles = _titles(repository)
    lines = []
    for file in files:
        ending = next((ending for ending in ARCHIVE_ENDINGS if file.name.lower().endswith(ending)), None)
        if ending and not titles.isdisjoint((*_names_of(file.name[: -len(ending)]), *(_folders_in(file) if ending == ".zip" else ()))):
            lines.append(f"{file} holds {repository} as an archive: unpack it, and run the same command again")
    return lines


def _folders_in(archive: Path) -> set[str]:
    """The names, in lower case, of the folders above what marks a saved folder in a zip archive."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [PurePosixPath(name) for name in opened.namelist()[:MAX_MEMBERS]]
    except (*DAMAGED, OSError):
        return set()
    return {name for member in members if member.name in _MARKS for folder in member.parents for name in _names_of(folder.name)}


def take_folder(source: Path, target: Path, variant: str | None, stated: str | None) -> Taken:
    """Copies the files of `source` that are read to `target`, all or none. InputError if that fails, or their sha256 is not `stated`."""
    names = folder_files(source, variant)
    require_space(target.parent, sum((source / name).stat().st_size for name in names))
    sums: dict[str, str] = {}
    try:
        with whole_folder(target) as partial:
            for name in names:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                sums[name] = copy_hashed(source / name, partial / name)
            sha256 = sha256_of_listing(sums)
            if stated and sha256 != stated:
                raise InputError(
                    f"{source} holds other files than those that are wanted ({sha256[:12]}, not {stated[:12]})", "Get the other revision"
                )
    except OSError as error:
        raise InputError.unwritable(f"copy {source} to {target}", error) from None
    return Taken(sha256, sums, _commit_of(source, names))


def copy_hashed(source: Path, target: Path) -> str:
    """Copies a file and gives the sha256 of what was copied. Raises OSError."""
    digest = hashlib.sha256()
    with open_plain(source) as stream, target.open("wb") as out:
        while block := stream.read(BLOCK):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def _candidates(repository: str, folders: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Folders with a name that the repository may have here: the one of that name, and where its files lie."""
    titles = _titles(repository)
    for folder in folders:
        if folder.name.lower().startswith(CACHE) and folder.name.lower() in titles:
            yield from ((folder, snapshot) for snapshot in _snapshots(folder))
        elif not titles.isdisjoint(_names_of(folder.name)):
            yield folder, folder


def _titles(repository: str) -> set[str]:
    """The names, in lower case, that a folder of `repository` may have; the last is that in the Hub's cache."""
    owner, _, title = repository.rpartition("/")
    return {name.lower() for name in (title, f"{owner}--{title}", f"{owner}_{title}", f"{owner}-{title}", f"{CACHE}{owner}--{title}")}


def _names_of(name: str) -> set[str]:
    """What a folder was called before it was saved, in lower case: as it is called now, or without what is added to a copy."""
    return {name.lower(), _COPY.sub("", name).lower()}


def _snapshots(folder: Path) -> list[Path]:
    """The commits of a repository in the Hub's cache: the one that `main` stands for first, then by name."""
    main = folder / "refs" / "main"
    commit = main.read_text(encoding="utf-8", errors="replace").strip() if main.is_file() else ""
    inside = sorted((folder / "snapshots").iterdir()) if (folder / "snapshots").is_dir() else []
    return sorted((entry for entry in inside if _is_plain_folder(entry)), key=lambda entry: entry.name != commit)


def _problem(place: Path, named: Path, variant: str | None) -> str:
    """Why the folder `place` is no whole saved pipeline, as the end of a sentence; "" if it is one. Links stay inside `named`."""
    try:
        names = folder_files(place, variant)
        return next(_wrong_files(place, named, names), "") or next(_wrong_weights(place, names, variant), "")
    except InputError as error:
        return f"and {error.message}"
    except OSError as error:
        return f"and {error.filename or place} cannot be read ({error.strerror})"


def _wrong_files(place: Path, named: Path, names: list[str]) -> Iterator[str]:
    """Files that are not in the folder, or not what they stand for."""
    for name in names:
        file = (place / name).resolve()
        if not file.is_relative_to(named.resolve()):
            yield f"and its {name} is a link out of it"
            continue
        with open_plain(file) as stream:
            if stream.read(len(LFS)) == LFS:
                yield f"and its {name} is a note of Git LFS in place of the file: run `git lfs pull` there"


def _wrong_weights(place: Path, names: list[str], variant: str | None) -> Iterator[str]:
    """Weights that are not there, or only a part of them."""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name.rpartition("/")[0], []).append(name.rpartition("/")[2])
    weights = {part: form for part, leaves in parts.items() if (form := find_weights(leaves, variant))}
    if not weights:
        yield "and no weights in it"
    for part, form in weights.items():
        listed = read_object(place / part / form.index).get("weight_map") if form.index else None
        for absent in sorted({str(file) for file in listed.values()} - set(form.files)) if isinstance(listed, dict) else ():
            yield f"and lacks {f'{part}/' if part else ''}{absent}, a part of its weights"


def _commit_of(source: Path, names: list[str]) -> str | None:
    """The commit that a folder is of: by its name in the Hub's cache, or by the notes of `hf download`, where all say the same."""
    if _COMMIT.fullmatch(source.name):
        return source.name
    notes = [source / ".cache" / "huggingface" / "download" / f"{name}.metadata" for name in names]
    commits = {_first_line(note) for note in notes}
    commit = commits.pop() if len(commits) == 1 else ""
    return commit if _COMMIT.fullmatch(commit) else None


def _first_line(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""


def _is_plain_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.is_symlink() and not entry.name.startswith(".")
