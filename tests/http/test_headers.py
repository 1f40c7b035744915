"""Every response bears an id, and headers that keep browsers safe."""

import logging

import pytest
from quart import Response

from chat_server.http.requests import SECURITY_HEADERS
from tests.rig.server import mint
from tests.rig.tokens import forge

from .client import MESSAGES, Client, client


async def _fault() -> str:
    raise RuntimeError("fault")


async def _all_kinds(http: Client) -> dict[str, Response]:
    http.app.add_url_rule("/fault", "fault", _fault)
    token = mint("ada")
    return {
        "page": await http.ask("GET", "/"),
        "docs": await http.ask("GET", "/docs"),
        "openapi": await http.ask("GET", "/openapi.json"),
        "health": await http.ask("GET", "/health"),
        "head": await http.ask("HEAD", "/health"),
        "options": await http.ask("OPTIONS", MESSAGES),
        "created": await http.ask("POST", MESSAGES, token=token, json={"data": 1}),
        "history": await http.ask("GET", MESSAGES, token=token),
        "unauthorized": await http.ask("GET", MESSAGES),
        "forbidden": await http.ask("GET", "/api/topics/news/messages", token=token),
        "not found": await http.ask("GET", "/nothing"),
        "wrong method": await http.ask("POST", "/health"),
        "redirect": await http.ask("GET", "//health"),
        "fault": await http.ask("GET", "/fault"),
    }


async def test_security_headers_are_on_every_response() -> None:
    async with client() as http:
        for kind, response in (await _all_kinds(http)).items():
            for name, value in SECURITY_HEADERS.items():
                assert response.headers.getlist(name) == [value], (kind, name)
            assert "Server" not in response.headers


async def test_the_policy_forbids_what_an_injected_script_would_need() -> None:
    policy = dict(
        part.strip().split(" ", 1)
        for part in SECURITY_HEADERS["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'self'"
    assert "script-src" not in policy
    assert policy["frame-ancestors"] == "'none'"
    assert policy["object-src"] == "'none'"
    assert policy["base-uri"] == "'none'"


async def test_every_response_has_an_id_of_its_own() -> None:
    async with client() as http:
        responses = await _all_kinds(http)
        ids = [response.headers["X-Request-ID"] for response in responses.values()]
        assert all(ids)
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 64])
async def test_takes_over_an_id_that_is_one(given: str) -> None:
    async with client() as http:
        for path in ("/health", "/nothing"):
            response = await http.ask("GET", path, headers={"X-Request-ID": given})
            assert response.headers.getlist("X-Request-ID") == [given]


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 65, "ü", "a;b", 'a"b', "<script>"])
async def test_replaces_an_id_that_is_none(given: str) -> None:
    async with client() as http:
        response = await http.ask("GET", "/health", headers={"X-Request-ID": given})
        assert response.headers["X-Request-ID"] != given


async def test_a_request_is_logged_once_and_without_its_query(
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = forge()
    async with client() as http:
        with caplog.at_level(logging.DEBUG, "chat_server"):
            response = await http.ask(
                "GET", "/health", query_string={"token": token}, headers={"X-Request-ID": "mine"}
            )
        assert response.status_code == 200
    mine = [r for r in caplog.records if getattr(r, "request_id", None) == "mine"]
    assert len(mine) == 1
    assert "GET /health answered 200" in mine[0].getMessage()
    assert not [r for r in caplog.records if token in r.getMessage()]


async def test_what_changes_is_not_cached() -> None:
    async with client() as http:
        for path in ("/health", "/health/live", "/health/ready"):
            assert (await http.ask("GET", path)).headers["Cache-Control"] == "no-store"
        history = await http.ask("GET", MESSAGES, token=mint("ada"))
        assert history.headers["Cache-Control"] == "no-store"
