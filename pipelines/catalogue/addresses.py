"""Where a file may be fetched from: https, or this machine. An address may be a stranger's, in a manifest or in a server's redirect.

An address may hold a secret: a user's password, or the signature of a link that a server made for one person. Lines that are printed and
files that are kept show it without.
"""

from __future__ import annotations

import ipaddress
import netrc
import os
import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from foreign.text import reason
from generators.errors import InputError

SECRET = re.compile(r"sig|token|secret|passw|auth|credential|api_?key|^key$|x-(amz|goog|ms)-|policy|key-pair-id", re.IGNORECASE)
USER = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/?#]*@", re.IGNORECASE)


class TransferError(InputError):
    """A file that could not be fetched: one line that names the address, and what to do."""


def require_safe(url: str) -> None:
    """Raises TransferError for what is no address, and for one that is neither https nor on this machine."""
    try:
        parts, port = urlsplit(url), urlsplit(url).port
        httpx.URL(url)
        (parts.hostname or "").encode("idna")
    except (ValueError, httpx.InvalidURL) as error:
        raise TransferError(f"{shown(url)} is no address ({reason(error)})", "Correct the `url`, or open the page of its authors") from None
    if parts.hostname and port != 0 and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))):
        return
    raise TransferError(f"{shown(url)} is no https address", "What others can change on the way is not fetched: use https")


def joined(address: str, location: str) -> str:
    """Where a redirect leads. TransferError if it is no address."""
    try:
        return urljoin(address, location)
    except ValueError as error:
        raise TransferError(
            f"{shown(address)} leads to {shown(location)!r}, which is no address ({reason(error)})", "Open it in a browser"
        ) from None


def shown(url: str) -> str:
    """The address as it may be printed and kept: without a user and a password, and with `...` for values of its query that are secrets
    by their names."""
    url = USER.sub(r"\1", url)
    address, mark, query = url.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]
    return address + mark + "&".join(name + equals + ("..." if equals and SECRET.search(name) else value) for name, equals, value in pairs)


def holds_login(url: str) -> bool:
    """Whether a user, and perhaps a password, is in the address."""
    return bool(USER.match(url))


def logins() -> httpx.Auth | None:
    """The users and passwords of `~/.netrc` (or $NETRC), by host, if there is such a file. TransferError if it cannot be read."""
    file = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    if not file.is_file():
        return None
    try:
        return httpx.NetRCAuth(str(file))
    except (OSError, ValueError, netrc.NetrcParseError) as error:
        raise TransferError(
            f"{file} cannot be read ({reason(error)})", "Correct its lines: `machine HOST login USER password ...`"
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
