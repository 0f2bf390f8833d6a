"""Who may ask foreal serve: keys, origins of pages, names of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import environment
from real.models import Files
from serving import Server, start

from foreal_local.errors import UsageError
from foreal_local.server.guard import Origins, origin_of

CHAT = "/v1/chat/completions"
CORS = ("--cors-origin", "https://chat.example.org", "--cors-origin", "HTTPS://Wiki.Example.org:443/")
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def locked(chat_pair: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With keys, from the option's variable and from a file."""
    home = tmp_path_factory.mktemp("home")
    (home / "keys.txt").write_text("# of friends\nsecond\n\nthird\n")
    env = environment(chat_pair, home, FOREAL_API_KEY="first")
    with start("--api-key-file", home / "keys.txt", *CORS, env=env) as server:
        yield server


@pytest.mark.parametrize("key", ["first", "second", "third"])
def test_each_key_is_taken(locked: Server, key: str) -> None:
    """Guards a file of keys of which only one is read."""
    answer = httpx.post(f"{locked.url}{CHAT}", json=ASKED, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer firs", "Bearer first2", "Basic first", "first"])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/nothing", "/metrics", "/props", "/openapi.json"])
def test_without_a_key_nothing_is_told(locked: Server, header: str | None, path: str) -> None:
    """Guards a path that was forgotten."""
    headers = {"Authorization": header} if header is not None else {}
    method = "POST" if path == CHAT else "GET"
    answer = httpx.request(method, f"{locked.url}{path}", json=ASKED, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_health_needs_no_key(locked: Server) -> None:
    """Guards a health check that would need a secret."""
    for path in ("/health", "/v1/health"):
        assert httpx.get(f"{locked.url}{path}").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("http://127.0.0.1", True),
        ("http://[::1]:5173", True),
        ("https://chat.example.org", True),
        ("https://wiki.example.org", True),
        ("http://chat.example.org", False),
        ("https://evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://localhost:3000.evil.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_pages_of_other_origins_are_refused(locked: Server, origin: str, allowed: bool) -> None:
    """Guards a page somewhere that has the models of everybody who opens it write for it."""
    headers = {"Origin": origin, "Authorization": "Bearer first"}
    answer = httpx.post(f"{locked.url}{CHAT}", json=ASKED, headers=headers)
    assert answer.status_code == (200 if allowed else 403)
    assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
    asks = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = httpx.options(f"{locked.url}{CHAT}", headers=asks)
    assert preflight.status_code == (200 if allowed else 403)
    wrong = httpx.post(f"{locked.url}{CHAT}", json=ASKED, headers={"Origin": origin})
    assert wrong.status_code == (401 if allowed else 403)
    assert wrong.headers.get("access-control-allow-origin") == (origin if allowed else None)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("chat.example.org", 200),
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
    ],
)
def test_names_that_others_have_made_are_refused(locked: Server, host: str, status: int) -> None:
    """Guards a name that was made to mean this machine (DNS rebinding): the page of that name would be the server's."""
    assert httpx.get(f"{locked.url}/health", headers={"Host": host}).status_code == status


def test_any_key_is_taken_where_there_are_none(chat_pair: Files, tmp_path: Path) -> None:
    """Guards clients that must send one."""
    with start("--cors-origin", "*", env=environment(chat_pair, tmp_path)) as server:
        headers = {"Authorization": "Bearer anything", "Origin": "https://anywhere.example"}
        answer = httpx.post(f"{server.url}{CHAT}", json=ASKED, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"


def test_the_servers_own_page_may_ask() -> None:
    """Guards a page that is opened from another machine, and one whose name could be anybody's."""
    everywhere = Origins("0.0.0.0")
    assert everywhere.allows("http://192.168.1.5:8080", "192.168.1.5:8080")
    assert not everywhere.allows("http://192.168.1.6:8080", "192.168.1.5:8080")
    assert not everywhere.allows("http://evil.example:8080", "evil.example:8080")
    assert Origins("box.lan").allows("http://box.lan:8080", "box.lan:8080")
    assert not everywhere.is_loopback
    assert Origins("localhost").is_loopback
    assert Origins("::1").is_loopback


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("*", "*"),
        ("https://a.example", "https://a.example"),
        ("https://a.example/", "https://a.example"),
        ("HTTPS://A.Example:8443", "https://a.example:8443"),
        ("http://a.example:80", "http://a.example"),
        ("https://a.example:80", "https://a.example:80"),
        ("http://[FE80::1]:3000/", "http://[fe80::1]:3000"),
        ("app://obsidian.md", "app://obsidian.md"),
    ],
)
def test_an_origin_is_taken_as_browsers_send_it(given: str, sent: str) -> None:
    """Guards a page that is told to be named with --cors-origin, and has been."""
    assert origin_of(given) == sent


@pytest.mark.parametrize(
    "given", ["", "a.example", "null", "https://", "https://a.example//", "https://me@a.example", "https://a.example:x"]
)
def test_what_no_browser_sends_is_no_origin(given: str) -> None:
    """Guards an option that changes nothing."""
    with pytest.raises(UsageError, match=r"--cors-origin is .*https://chat\.example\.org"):
        origin_of(given)
