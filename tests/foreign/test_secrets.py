"""Secrets in addresses are not shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreign.secrets import holds_login, shown, without_secrets


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://example.org/a.pt", "https://example.org/a.pt"),
        ("https://me:hunter2@example.org/a.pt", "https://example.org/a.pt"),
        ("https://me:hun@ter2@example.org/a.pt", "https://example.org/a.pt"),
        ("https://hunter2@example.org:8080/a@b.pt", "https://example.org:8080/a@b.pt"),
        ("https://example.org/@me/a.pt?dl=1", "https://example.org/@me/a.pt?dl=1"),
        ("https://example.org/a.pt?rlkey=shared&dl=1", "https://example.org/a.pt?rlkey=shared&dl=1"),
        ("https://example.org/a?id=5&Signature=hunter2&Expires=9", "https://example.org/a?id=5&Signature=...&Expires=9"),
        ("https://example.org/a?api_key=hunter2", "https://example.org/a?api_key=..."),
        ("https://example.org/a?X-Goog-Credential=hunter2", "https://example.org/a?X-Goog-Credential=..."),
        ("https://example.org/a?sig=hunter2&se=2026", "https://example.org/a?sig=...&se=2026"),
        ("/a?token=hunter2", "/a?token=..."),
        (" https://me:hunter2@example.org/a", " https://example.org/a"),
        ("https:me:hunter2@example.org/a", "https:example.org/a"),
        ("//me:hunter2@example.org/a", "//example.org/a"),
        ("https://me:hunter2/5@example.org/a", "https://example.org/a"),
        ("https://me:hunter2?5@example.org/a", "https://example.org/a"),
        ("https://me:hunter2#5@example.org/a", "https://example.org/a"),
        ("http://127.0.0.1:8000/a@b?x=@", "http://127.0.0.1:8000/a@b?x=@"),
        ("http://[::1]:8000/a@b", "http://[::1]:8000/a@b"),
        ("https://example.org/a?b=1#access_token=hunter2", "https://example.org/a?b=1#access_token=..."),
        ("https://example.org/a;jwt=hunter2?b=1&pw=hunter2", "https://example.org/a;jwt=...?b=1&pw=..."),
        ("https://example.org/a?token=hun;ter2&b=1", "https://example.org/a?token=...&b=1"),
        ("https://example.org/a?b=1;token=hunter2", "https://example.org/a?b=1;token=..."),
        ("https://example.org/a?b=1?token=hunter2", "https://example.org/a?b=1?token=..."),
        ("https://example.org/;b=1/c?token=hunter2", "https://example.org/;b=1/c?token=..."),
        ("https://example.org/a#/route?token=hunter2", "https://example.org/a#/route?token=..."),
        ("https://example.org/a?to%6Ben=hunter2", "https://example.org/a?to%6Ben=..."),
        ("https://example.org/?u=https%3A%2F%2Fb.org%2F%3Ftoken%3Dhunter2", "https://example.org/?u=..."),
        ("https://example.org/?u=https%3A%2F%2Fb.org%2Fa", "https://example.org/?u=https%3A%2F%2Fb.org%2Fa"),
        ("https://example.org/a?eyJhbGciOiJIUzI1NiJ9hunter2", "https://example.org/a?..."),
        ("https://example.org/a?download", "https://example.org/a?download"),
    ],
)
def test_what_is_shown_of_an_address(address: str, expected: str) -> None:
    assert shown(address) == expected
    assert shown(expected) == expected


@given(st.text(), st.text("abcdef:@%"), st.text())
def test_no_user_and_no_token_is_shown_whatever_stands_around_them(path: str, user: str, more: str) -> None:
    token = f"hunter2{more}hunter2".replace("&", "").replace("#", "")
    address = f"https://{user}@example.org/{path}?token={token}"
    assert holds_login(address)
    assert shown(address).startswith("https://example.org/") and "hunter2" not in shown(address)


@given(st.text())
def test_any_text_is_shown_the_same_a_second_time(text: str) -> None:
    assert shown(shown(text)) == shown(text)
    assert without_secrets(without_secrets(text)) == without_secrets(text)


def test_an_address_may_be_as_long_as_a_stranger_likes() -> None:
    many = ";b=1?c=2" * 5_000
    assert shown(f"https://example.org/a?a=1{many}") == f"https://example.org/a?a=1{many}"
    assert shown(f"https://example.org/a?a=1{many};token=hunter2{many}") == f"https://example.org/a?a=1{many};token=..."


def test_lines_of_a_log_keep_what_is_no_secret() -> None:
    line = 'HTTP Request: GET https://me:hunter2@example.org/a?dl=1&sig=hunter2 "HTTP/1.1 302 Found"\nsee http://b.org/?token=hunter2'
    assert without_secrets(line) == (
        'HTTP Request: GET https://example.org/a?dl=1&sig=... "HTTP/1.1 302 Found"\nsee http://b.org/?token=...'
    )
    assert without_secrets("key=3 of a@b.org") == "key=3 of a@b.org"
