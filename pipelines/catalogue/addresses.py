"""Where a file may be fetched from: https, or this machine. An address may be a stranger's, in a manifest or in a server's redirect."""

from __future__ import annotations

import ipaddress
from urllib.parse import urljoin, urlsplit

import httpx

from foreign.text import reason
from generators.errors import InputError


class TransferError(InputError):
    """A file that could not be fetched: one line that names the address, and what to do."""


def require_safe(url: str) -> None:
    """Raises TransferError for what is no address, and for one that is neither https nor on this machine."""
    try:
        parts, port = urlsplit(url), urlsplit(url).port
        httpx.URL(url)
        (parts.hostname or "").encode("idna")
    except (ValueError, httpx.InvalidURL) as error:
        raise TransferError(f"{url} is no address ({reason(error)})", "Correct the `url`, or open the page of its authors") from None
    if parts.hostname and port != 0 and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))):
        return
    raise TransferError(f"{url} is no https address", "What others can change on the way is not fetched: use https")


def joined(address: str, location: str) -> str:
    """Where a redirect leads. TransferError if it is no address."""
    try:
        return urljoin(address, location)
    except ValueError as error:
        raise TransferError(f"{address} leads to {location!r}, which is no address ({reason(error)})", "Open it in a browser") from None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
