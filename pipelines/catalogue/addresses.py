"""Where a file may be fetched from: https, or this machine. An address may be a stranger's, in a manifest or in a server's redirect.

An address may hold a secret. Lines that are printed and files that are kept show it without (`foreign.secrets`).
"""

from __future__ import annotations

import ipaddress
import netrc
import os
from collections.abc import Generator, Mapping
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from foreign.secrets import shown, without_user
from foreign.text import reason
from generators.errors import InputError


class TransferError(InputError):
    """A file that could not be fetched: one line that names the address, and what to do."""


def require_safe(url: str) -> None:
    """Raises TransferError for what is no address, and for one that is neither https nor on this machine."""
    if _problem(url):
        said = _problem(without_user(url))  # what is wrong with a user and a password would be said in their own letters
        what = f"{shown(url)} is no address" + (f" ({said})" if said else "")
        raise TransferError(what, "Correct the `url`, or open the page of its authors")
    parts = urlsplit(url)
    if parts.hostname and parts.port != 0 and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))):
        return
    raise TransferError(f"{shown(url)} is no https address", "What others can change on the way is not fetched: use https")


def _problem(url: str) -> str:
    """Why `url` cannot be read as an address, "" if it can."""
    if url != url.strip():
        return "a space stands at its beginning or end"
    try:
        parts, _ = urlsplit(url), urlsplit(url).port
        httpx.URL(url)
        (parts.hostname or "").encode("idna")
    except (ValueError, httpx.InvalidURL) as error:
        return reason(error)
    return ""


def joined(address: str, location: str) -> str:
    """Where a redirect leads. TransferError if it is no address."""
    try:
        return urljoin(address, location)
    except ValueError:
        raise TransferError(f"{shown(address)} leads to {shown(location)!r}, which is no address", "Open it in a browser") from None


class _Logins(httpx.Auth):
    """The login of each host that a netrc file names. Its `default` is none: an address may be a stranger's, and would get it."""

    def __init__(self, hosts: Mapping[str, tuple[str, str | None, str | None]]):
        self._hosts = {host: httpx.BasicAuth(user, password or "") for host, (user, _, password) in hosts.items() if host != "default"}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        login = self._hosts.get(request.url.host)
        if login is None:
            yield request
        else:
            yield from login.auth_flow(request)


def logins() -> httpx.Auth | None:
    """The users and passwords of `~/.netrc` (or $NETRC), by host, if there is such a file. TransferError if it cannot be read."""
    file = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    if not file.is_file():
        return None
    try:
        return _Logins(netrc.netrc(str(file)).hosts)
    except netrc.NetrcParseError as error:
        said = f"line {error.lineno}"  # its words may be a password
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "it is no text"
    raise TransferError(f"{file} cannot be read ({said})", "Correct its lines: `machine HOST login USER password ...`")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
