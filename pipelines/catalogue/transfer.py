"""One file over https: resumed by Range, tried again after passing faults, hashed while it streams, under its name only when it is whole.

What has arrived lies in `NAME.partial`, and `NAME.partial.json` says of which version of the file it is a part. A killed run goes on there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from foreign.json_files import read_json
from foreign.secrets import shown
from generators.checkpoints.files import describe_other
from generators.errors import InputError
from generators.files import write_json
from pipelines.catalogue.addresses import TransferError, joined, logins, require_safe
from pipelines.catalogue.answers import goes_on, length_of, place_of, retry_after, validator_of
from pipelines.catalogue.pace import HeaderWatch, SlowServer, at_pace

BLOCK = 2**20  # bytes that are read, hashed and written together
RETRIES = 5  # tries in a row that bring no byte
REDIRECTS = 10
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each new try
LONGEST_WAIT = 60.0  # seconds that a server may ask for; more ends the fetch with one line
TIMEOUT = httpx.Timeout(30.0)
PASSING = {408, 425, 429, 500, 502, 503, 504}
RESERVE = 256 * 2**20  # bytes of the disk that stay free
REASONS = {
    401: "wants a login (401)",
    403: "refuses access (403)",
    404: "is not there any more (404)",
    410: "is not there any more (410)",
    429: "has had too many requests (429)",
}


class _PassingError(Exception):
    """A fault that may be gone at the next try. `wait` is what the server asks for, in seconds. After a `stalled` try the bytes that it
    brought are no sign that the next one ends."""

    def __init__(self, reason: str, wait: float = 0.0, stalled: bool = False):
        super().__init__(reason)
        self.wait, self.stalled = wait, stalled


@dataclass
class Watch:
    """What a transfer tells of itself: `advance` gets the bytes that have come (less than 0 where they begin again), `expect` the bytes of
    a file once they are known. `stop` ends it between two blocks."""

    advance: Callable[[int], None] = lambda _: None
    expect: Callable[[int], None] = lambda _: None
    stop: threading.Event = field(default_factory=threading.Event)


def download(url: str, target: Path, sha256: str | None = None, watch: Watch | None = None, waits: tuple[float, ...] = WAITS) -> str:
    """Fetches `url` to `target` and returns its sha256, hex. The folder of `target` is made.

    Raises TransferError, with nothing at `target`, if the server refuses, sends a web page in place of a file, goes silent or is slower
    than `pace` allows RETRIES times in a row, or sends other bytes than those of `sha256`. What has come by then stays for the next run,
    except bytes that are wrong.
    """
    watch = watch or Watch()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return _persistently(url, target, sha256, watch, waits)
    except OSError as error:  # of the network only what `_attempt` takes for it
        raise TransferError.unwritable(f"write {target}", error) from None


def _persistently(url: str, target: Path, sha256: str | None, watch: Watch, waits: tuple[float, ...]) -> str:
    """`download` into a folder that is there. OSError is one of the disk."""
    partial, note = partial_of(target), note_of(target)
    failures, most = 0, _size_of(partial)
    while True:
        try:
            digest = _attempt(url, partial, note, watch)
            break
        except _PassingError as fault:
            have = _size_of(partial)  # a part that was thrown away and comes again is no sign that the file will ever be whole
            failures = 1 if have > most and not fault.stalled else failures + 1
            most = max(most, have)
            if failures > RETRIES or fault.wait > LONGEST_WAIT:
                raise TransferError(f"{shown(url)}: {fault}", "Run the same command again later: it goes on where it was") from None
            if watch.stop.wait(max(fault.wait, waits[min(failures, len(waits)) - 1])):
                raise KeyboardInterrupt from None
    if sha256 and digest != sha256:
        _forget(partial, note)
        raise TransferError(
            f"{shown(url)} is another file than the one that is wanted: its sha256 begins {digest[:12]}, not {sha256[:12]}",
            "Its owner may have replaced it: do not use it before you know why",
        )
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(target)
    note.unlink(missing_ok=True)
    return digest


def partial_of(target: Path) -> Path:
    """Where the part of a file or folder lies that has come so far."""
    return target.with_name(f"{target.name}.partial")


def note_of(target: Path) -> Path:
    """Where it is written of which version of a file that part is."""
    return target.with_name(f"{target.name}.partial.json")


def remote_size(url: str) -> int | None:
    """The bytes of the file at `url`, or None if the server does not say. A server that refuses is met again when the file is fetched."""
    try:
        with _client() as client, _opened(client, "HEAD", url, {}) as response:
            return length_of(response) if response.status_code == 200 else None
    except (httpx.HTTPError, SlowServer, TransferError, _PassingError):
        return None


def require_space(folder: Path, needed: int) -> None:
    """Raises InputError if the disk of `folder` has less than `needed` bytes, and a reserve, free."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if needed + RESERVE > free:
        raise InputError(
            f"{folder} needs {needed / 2**30:.1f} GiB, and the disk has {free / 2**30:.1f} GiB free",
            "Make room, or set NTF_CHECKPOINTS to a folder on a larger disk",
        )


def _attempt(url: str, partial: Path, note: Path, watch: Watch) -> str:
    """One try: what is missing of `partial` is fetched. Returns the sha256 of the whole."""
    have, headers, known = _resumable(url, partial, note)
    try:
        with _client() as client, _opened(client, "GET", url, headers) as response:
            if response.status_code == 416 or (response.status_code == 206 and not goes_on(response, have, known)):
                _forget(partial, note)  # so that the next try asks for the whole
                raise _PassingError("the server sends another part than the one that was asked for, or one of another version of the file")
            start, total = place_of(response, have)
            blocks, coding = at_pace(response.iter_raw()), response.headers.get("Content-Encoding", "identity").lower()
            if coding != "identity":  # a server that compresses although it was asked not to: what comes is no part to go on with
                blocks, start, total = _decoded(shown(url), blocks, coding), 0, None
            if start == 0:
                partial.unlink(missing_ok=True)
                validator = validator_of(response) if coding == "identity" else None
                write_json(note, {"address": _fingerprint(url), "validator": validator, "total": total})
            watch.expect(total or 0)
            return _stream(shown(url), blocks, partial, start, total, watch)
    except SlowServer as error:
        raise _PassingError(str(error), stalled=True) from None
    except httpx.HTTPError as error:
        raise _PassingError(f"the connection failed ({str(error) or type(error).__name__})") from None


def _resumable(url: str, partial: Path, note: Path) -> tuple[int, dict[str, str], dict[str, Any]]:
    """How many bytes are here, the headers that ask for the rest of that very version, and what is known of it; nothing if it cannot be
    told."""
    try:
        known = read_json(note)
        have = partial.stat().st_size
        if known["address"] != _fingerprint(url) or not known["validator"] or not 0 < have <= (known["total"] or have):
            return 0, {}, {}
    except (OSError, ValueError, KeyError, TypeError):
        return 0, {}, {}
    return have, {"Range": f"bytes={have}-", "If-Range": str(known["validator"])}, known


def _decoded(name: str, blocks: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """What `blocks` are once they are decompressed. A stream without its end is a cut connection."""
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise TransferError(f"{name} is sent compressed as {coding!r}", "Open it in a browser, save the file, and use `ntf fetch --from`")
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header
    try:
        for block in blocks:
            rest = block
            while rest and not decoder.eof:
                yield decoder.decompress(rest, BLOCK)
                rest = decoder.unconsumed_tail
    except zlib.error as error:
        raise _PassingError(f"what the server sends cannot be decompressed ({error})") from None
    if not decoder.eof:
        raise _PassingError("the connection was cut")


def _stream(name: str, blocks: Iterator[bytes], partial: Path, start: int, total: int | None, watch: Watch) -> str:
    digest, size = hashlib.sha256(), start
    if start:
        with partial.open("rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    watch.advance(start)
    done = False
    try:
        with partial.open("ab") as out:
            for block in blocks:  # as it comes, so that a cut loses nothing
                if total is not None and size + len(block) > total:
                    raise _PassingError("the server sends more than it said")
                if total is None and shutil.disk_usage(partial.parent).free < RESERVE + len(block):
                    raise TransferError(f"{name}: the disk of {partial.parent} is full", "Make room, and run the same command again")
                out.write(block)
                digest.update(block)
                size += len(block)
                watch.advance(len(block))
                if watch.stop.is_set():
                    raise KeyboardInterrupt
        if total is not None and size != total:
            raise _PassingError(f"the connection was cut after {size:,} of {total:,} bytes")
        done = True
    except SlowServer:  # an OSError too, and not of the disk
        raise
    except OSError as error:
        raise TransferError.unwritable(f"write {partial}", error) from None
    finally:
        if not done:
            watch.advance(-size)
    _require_weights(name, partial)
    return digest.hexdigest()


def _require_weights(name: str, partial: Path) -> None:
    """Raises TransferError, and throws the bytes away, if a server sent nothing or something that stands in the place of a file."""
    with partial.open("rb") as stream:
        start = stream.read(512)
    what = (describe_other(start) or ("", ""))[0]
    if start and "web page" not in what and "Git LFS" not in what:
        return
    _forget(partial, partial.with_name(f"{partial.name}.json"))
    if not start:
        raise TransferError(f"{name} is empty", "Open its page in a browser")
    if "Git LFS" in what:
        raise TransferError(f"{name} sends a note of Git LFS in place of the file", "Take the address that the page's download button has")
    raise TransferError(f"{name} sends a web page in place of the file", "Open it in a browser, save the file, and use `ntf fetch --from`")


@contextmanager
def _opened(client: httpx.Client, method: str, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
    """The response after redirects, each of them to https (or to this machine), with a status that means success or 416."""
    address = url
    for _ in range(REDIRECTS):
        require_safe(address)
        with client.stream(method, address, headers=headers, extensions={"trace": HeaderWatch()}) as response:
            if response.has_redirect_location:
                address = joined(address, response.headers["Location"])
                continue
            status = response.status_code
            if status in PASSING:
                raise _PassingError(f"the server {REASONS.get(status, f'answers {status}')}", retry_after(response))
            if not 200 <= status < 300 and not (status == 416 and "Range" in headers):
                raise TransferError(f"{shown(url)} {REASONS.get(status, f'cannot be had ({status})')}", _advice(status))
            yield response
            return
    raise TransferError(f"{shown(url)} leads from one address to the next, more than {REDIRECTS} times", "Open it in a browser")


def _client() -> httpx.Client:
    """Each request has a connection of its own, as its HeaderWatch wants."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "natural-trace-foundry", "Connection": "close"}
    return httpx.Client(timeout=TIMEOUT, headers=headers, auth=logins())


def _advice(status: int) -> str:
    if status in (401, 403):
        return "Open it in a browser: it may want a login or a form. Then use `ntf fetch --from`"
    return "Look on the page of its authors where it is now. `ntf fetch --from` takes a file that you have"


def _fingerprint(url: str) -> str:
    """What tells an address from others in a file that is kept."""
    return hashlib.sha256(url.encode()).hexdigest()


def _size_of(partial: Path) -> int:
    return partial.stat().st_size if partial.exists() else 0


def _forget(partial: Path, note: Path) -> None:
    partial.unlink(missing_ok=True)
    note.unlink(missing_ok=True)
