"""Secrets in addresses: a user's password, or the signature of a link that a server made for one person.

They are used, and never printed or kept: what people see and what is published shows the address without.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

NAMES = re.compile(
    r"sig|token|secret|pass|pwd|^pw$|auth|credential|api_?key|access|^key$|jwt|hmac|session|ticket|bearer|^(code|hash|md5|otp)$"
    r"|x-(amz|goog|ms)-|policy|key-pair-id",
    re.IGNORECASE,
)
LONGEST = 20  # characters of a query without names that is taken for a word, such as `?download`
_SCHEME = r"[\x00-\x20]*(?:[a-z][a-z0-9+.-]*:[/\\]*|[/\\]{2,})?"
_USER = re.compile(rf"^({_SCHEME})[^/?#]*@", re.IGNORECASE)
# A password with a `/`, `?` or `#` that was not written as `%2F`, `%3F`, `%23`: what stands after the colon is no port.
_TORN_USER = re.compile(rf"^({_SCHEME})[^/?#@:\[\]]*:(?!\d*[/?#])[^/?#@]*[/?#].*@", re.IGNORECASE | re.DOTALL)
_OF_THE_PATH = re.compile(r"(?<=;)[^/;]*=[^/;]*")
_ADDRESS = re.compile(r"(?<![\w+.-])[a-z][a-z0-9+.-]*://[^\s\"'<>|]+", re.IGNORECASE)


def shown(url: str) -> str:
    """The address as it may be printed and kept: without a user and a password, and with `...` for values of its query, path and fragment
    that are secrets by their names.

    >>> shown("https://me:hunter2@example.org/a.pt?dl=1&token=hunter2")
    'https://example.org/a.pt?dl=1&token=...'
    """
    rest, hash_, fragment = without_user(url).partition("#")
    path, mark, query = rest.partition("?")
    nameless = len(query) > LONGEST and not set("=&;") & set(query)
    path = _OF_THE_PATH.sub(lambda match: _pair(match[0]), path)
    return path + mark + ("..." if nameless else _pairs(query)) + hash_ + _pairs(fragment)


def without_user(url: str) -> str:
    """The address without the user and the password in it. The rest stays as it is."""
    return _TORN_USER.sub(r"\1", _USER.sub(r"\1", url))


def holds_login(url: str) -> bool:
    """Whether a user, and perhaps a password, is in the address."""
    return bool(_USER.match(url) or _TORN_USER.match(url))


def without_secrets(text: str) -> str:
    """Lines with each address in them as it is `shown`.

    >>> without_secrets('HTTP Request: GET https://example.org/a?sig=hunter2 "HTTP/1.1 200 OK"')
    'HTTP Request: GET https://example.org/a?sig=... "HTTP/1.1 200 OK"'
    """
    return _ADDRESS.sub(lambda match: shown(match[0]), text) if "://" in text else text


def _pairs(query: str) -> str:
    return "&".join(map(_pair, query.split("&")))


def _pair(pair: str) -> str:
    """`name=value`, or several with `;` or `?` between them, as they may be shown. Behind the name of a secret nothing is: a password may
    have such separators in it."""
    parts = re.split("([;?])", pair)
    for place, part in enumerate(parts):
        name, equals, value = part.partition("=")
        if equals and (NAMES.search(unquote(name)) or _holds_secret_address(unquote(value))):
            return "".join(parts[:place]) + f"{name}=..."
    return pair


def _holds_secret_address(value: str) -> bool:
    return "://" in value and shown(value) != value
