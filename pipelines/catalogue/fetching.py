"""Getting checkpoints that are not on this machine: from their servers, from the Hub, or from a folder where a person put them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import filelock

from foreign.secrets import shown, without_secrets
from generators.checkpoints import sha256_of_listing
from generators.errors import InputError
from pipelines.catalogue import by_hand, hub_files
from pipelines.catalogue.addresses import require_safe
from pipelines.catalogue.archives import extract_member
from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry, is_here
from pipelines.catalogue.identity import remember
from pipelines.catalogue.lock import Locked, add_to_lock
from pipelines.catalogue.transfer import Watch, download, partial_of, remote_size, require_space

ARCHIVES = ".archives"  # in the checkpoint folder: zip archives, until what is wanted of them is taken out
JOBS = 4


@dataclass(frozen=True)
class Fetched:
    """A checkpoint that was fetched: where it lies, its sha256, where it came from."""

    name: str
    path: Path
    sha256: str
    source: str


@dataclass
class FetchReport:
    """How a fetch ended: what came, and in one line each, by name, what did not."""

    fetched: list[Fetched] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def absent(names: Iterable[str], catalogue: Catalogue) -> list[str]:
    """The checkpoints among `names`, and their components, that are not on this machine, each once. InputError for an unknown name."""
    missing: dict[str, None] = {}
    for name in names:
        if name not in catalogue.entries:
            raise InputError(f"there is no checkpoint {name!r}", "`ntf checkpoint list` shows those that are known")
        missing |= dict.fromkeys(catalogue.missing(name))
    return list(missing)


def require_inside(names: Iterable[str], catalogue: Catalogue, roots: Sequence[Path] = ()) -> None:
    """Raises InputError if one of them would lie outside the checkpoint folder and outside `roots`: a manifest may be a stranger's."""
    allowed = [place.resolve() for place in (catalogue.folder, *roots)]
    for name in names:
        path = catalogue.path(name).resolve()
        if not any(path.is_relative_to(place) and path != place for place in allowed):
            raise InputError(f"checkpoint {name} would be written to {path}, outside {allowed[0]}", "Change its `file`")


def require_consent(names: Iterable[str], catalogue: Catalogue, accepted: Sequence[str]) -> None:
    """Raises InputError, naming them, if a licence of the checkpoints is not among those that were accepted."""
    said = {licence.casefold().strip() for licence in accepted}
    open_ones: dict[str, list[str]] = {}
    for name in names:
        licence = catalogue.entries[name].licence
        if licence.casefold().strip() not in said:
            open_ones.setdefault(licence, []).append(name)
    if open_ones:
        listed = "; ".join(f"{licence!r} of {', '.join(of)}" for licence, of in open_ones.items())
        options = " ".join(f'--accept "{licence}"' for licence in open_ones)
        places = "; ".join(f"{name}: {catalogue.entries[name].licence_note}" for of in open_ones.values() for name in of)
        raise InputError(f"licences that are not accepted yet: {listed} ({places})", f"Read them, and if you agree add {options}")


def fetch(
    names: Sequence[str],
    catalogue: Catalogue,
    jobs: int = JOBS,
    watch_of: Callable[[str], Watch] = lambda _: Watch(),
    total: Callable[[int], None] = lambda _: None,
) -> FetchReport:
    """Fetches checkpoints that have an address, several at once, and notes each in `lock.yaml`.

    Free space is asked first (InputError). What fails does not keep the rest from coming. Another fetch into the same folder is refused.
    """
    report = FetchReport()
    with _alone(catalogue.folder):
        needed, listed = _look(names, catalogue, report)
        total(needed)
        require_space(catalogue.folder, needed)
        wanted = [name for name in names if name not in report.failed]
        groups = [list(group) for group in _by_source(wanted, catalogue)]
        watches = [watch_of(", ".join(group)) for group in groups]
        with ThreadPoolExecutor(jobs) as pool:
            tasks = {
                pool.submit(_fetch_group, group, catalogue, listed, watch): group for group, watch in zip(groups, watches, strict=True)
            }
            try:
                for task in as_completed(tasks):
                    try:
                        report.fetched += task.result()
                    except InputError as error:
                        report.failed |= dict.fromkeys(tasks[task], str(error))
                    except OSError as error:
                        place = catalogue.path(tasks[task][0])
                        report.failed |= dict.fromkeys(tasks[task], str(InputError.unwritable(f"write {place}", error)))
            except BaseException:
                for watch in watches:
                    watch.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
    return report


def take_from(folder: Path, names: Sequence[str], catalogue: Catalogue) -> tuple[FetchReport, list[str]]:
    """Takes what is recognised below `folder` of the checkpoints `names`; and what looks like one of them and is not, in one line each.

    While a fetch writes to the same checkpoint folder nothing is taken (InputError): of one name, both would write the file and its sha256.
    """
    report = FetchReport()
    matches, doubts = by_hand.recognise(folder, names, catalogue)
    if not matches:
        return report, doubts
    with _alone(catalogue.folder):
        for match in matches:
            if is_here(catalogue.path(match.name)):  # another fetch brought it while files were looked through
                continue
            try:
                taken = by_hand.take(match, catalogue)
            except InputError as error:
                report.failed[match.name] = str(error)
                continue
            path = catalogue.path(match.name)
            remember({path / name: digest for name, digest in taken.files.items()})
            source = f"{match.file.name}, by hand, recognised by {match.evidence}"
            _note(catalogue, match.name, taken.sha256, source, taken.revision, taken.files)
            report.fetched.append(Fetched(match.name, path, taken.sha256, f"{match.file}, by {match.evidence}"))
    return report, doubts


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps every other fetch out of the checkpoint folder, which is made. InputError if one is at work there, or it cannot be written."""
    lock = filelock.FileLock(folder / ".fetch.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        if not isinstance(error, filelock.Timeout):
            raise InputError.unwritable(f"write {folder}", error) from None
        raise InputError(f"another `ntf fetch` writes to {folder}", "Wait until it has ended") from None
    try:
        yield
    finally:
        lock.release()


def _look(names: Sequence[str], catalogue: Catalogue, report: FetchReport) -> tuple[int, dict[str, hub_files.HubFolder]]:
    """The bytes that will come, as far as servers say, and what the Hub lists of each folder. What cannot be had goes into the report."""
    listed: dict[str, hub_files.HubFolder] = {}
    needed = 0
    for group in _by_source(names, catalogue):
        entry = catalogue.entries[group[0]]
        try:
            if entry.hub and not entry.url:
                revision = catalogue.revision(group[0])
                folder = catalogue.path(group[0])
                listed[group[0]] = hub_files.list_folder(entry.hub, revision, entry.variant, folder)
                needed += listed[group[0]].size - _bytes_in(partial_of(folder))
            else:
                assert entry.url is not None
                for address in (entry.url, *entry.mirrors):
                    require_safe(address)
                size = entry.size if entry.size and not entry.member else remote_size(entry.url)
                needed += max(0, (size or 0) - _bytes_in(partial_of(_landing(entry, catalogue.path(group[0]), catalogue))))
        except InputError as error:
            report.failed |= dict.fromkeys(group, str(error))
        except OSError as error:
            report.failed |= dict.fromkeys(group, str(InputError.unwritable(f"write {catalogue.path(group[0])}", error)))
    return max(needed, 0), listed


def _by_source(names: Iterable[str], catalogue: Catalogue) -> list[list[str]]:
    """The checkpoints that come by one transfer: of one archive, or of one file under several names."""
    groups: dict[object, list[str]] = {}
    for name in names:
        entry = catalogue.entries[name]
        groups.setdefault(entry.url if entry.member else catalogue.path(name), []).append(name)
    return list(groups.values())


def _fetch_group(group: list[str], catalogue: Catalogue, listed: dict[str, hub_files.HubFolder], watch: Watch) -> list[Fetched]:
    entry = catalogue.entries[group[0]]
    if group[0] in listed:
        return _fetch_hub(group, catalogue, listed[group[0]], watch)
    landing = _landing(entry, catalogue.path(group[0]), catalogue)
    if not entry.member:
        sha256, source = _from_any(entry, landing, catalogue.stated_sha256(group[0]), watch)
        return [_noted(catalogue, name, sha256, source) for name in group]
    source = shown(entry.url or "")
    if not landing.is_file():
        _, source = _from_any(entry, landing, None, watch)
    fetched = []
    for name in group:
        member, stated, path = catalogue.entries[name].member, catalogue.stated_sha256(name), catalogue.path(name)
        assert member is not None
        sha256 = extract_member(landing, member, path)
        if stated and sha256 != stated:
            path.unlink()
            raise InputError(f"{source}: {member} in it has another sha256 than the one that is wanted ({sha256[:12]}, not {stated[:12]})")
        fetched.append(_noted(catalogue, name, sha256, f"{source}, {member} in it"))
    landing.unlink()
    return fetched


def _fetch_hub(group: list[str], catalogue: Catalogue, listed: hub_files.HubFolder, watch: Watch) -> list[Fetched]:
    path = catalogue.path(group[0])
    sums = hub_files.fetch_folder(listed, path, watch)
    sha256, stated = sha256_of_listing(sums), catalogue.stated_sha256(group[0])
    if stated and sha256 != stated:
        path.rename(partial_of(path))
        raise InputError(
            f"{listed.repository} has other files at {listed.revision[:12]} than those that are wanted ({sha256[:12]}, not {stated[:12]})",
            "State the `revision` that you want, or take its lines out of lock.yaml",
        )
    remember({path / name: digest for name, digest in sums.items()})
    _note(catalogue, group[0], sha256, listed.repository, listed.revision, sums)
    return [Fetched(name, path, sha256, f"{listed.repository} at {listed.revision[:12]}") for name in group]


def _from_any(entry: CheckpointEntry, landing: Path, stated: str | None, watch: Watch) -> tuple[str, str]:
    """The file from its address or, where that fails, from the next mirror: its sha256, and the address."""
    problems = []
    for address in (str(entry.url), *entry.mirrors):
        try:
            return download(address, landing, stated, watch), shown(address)
        except InputError as error:
            problems.append(error)
    others = f" (and {len(problems) - 1} more addresses failed)" if len(problems) > 1 else ""
    steps = f"{problems[0].fix}. {without_secrets(entry.how)}" if entry.how else problems[0].fix
    raise InputError(problems[0].message + others, steps)


def _landing(entry: CheckpointEntry, path: Path, catalogue: Catalogue) -> Path:
    """Where the bytes of its address come to lie first."""
    if not entry.member:
        return path
    return catalogue.folder / ARCHIVES / f"{hashlib.sha256(str(entry.url).encode()).hexdigest()[:16]}.zip"


def _noted(catalogue: Catalogue, name: str, sha256: str, source: str) -> Fetched:
    _note(catalogue, name, sha256, source)
    return Fetched(name, catalogue.path(name), sha256, source)


def _note(
    catalogue: Catalogue, name: str, sha256: str, source: str, revision: str | None = None, files: dict[str, str] | None = None
) -> None:
    entry, path = catalogue.entries[name], catalogue.path(name)
    if path.is_file():
        remember({path: sha256})
    now = datetime.now(UTC).isoformat(timespec="seconds")
    locked = Locked(sha256=sha256, source=source, licence=entry.licence, fetched=now, revision=revision, files=files or {})
    add_to_lock(catalogue.folder, str(entry.file), locked)


def _bytes_in(place: Path) -> int:
    if place.is_file():
        return place.stat().st_size
    return sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) if place.is_dir() else 0
