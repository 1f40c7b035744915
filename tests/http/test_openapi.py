"""`/openapi.json` is an OpenAPI document that agrees with what the server answers."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from chat_server.http.openapi import Provider
from tests.rig.server import mint

from .client import BATCH, MESSAGES, Client, client

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


async def _document(http: Client) -> dict[str, Any]:
    response = await http.ask("GET", "/openapi.json")
    assert response.status_code == 200
    assert response.content_type == "application/json"
    document: dict[str, Any] = await response.get_json()
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield path, method, operation


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "$ref":
                yield item
            else:
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _fits(value: object, schema: dict[str, Any], schemas: dict[str, Any]) -> bool:
    """Check a value against as much of JSON Schema as the document uses."""
    if "$ref" in schema:
        return _fits(value, schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return any(_fits(value, choice, schemas) for choice in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kind = schema.get("type")
    if kind == "object":
        assert isinstance(value, dict), value
        properties = schema.get("properties", {})
        more = schema.get("additionalProperties", {})
        return set(schema.get("required", ())) <= set(value) and all(
            _fits(item, properties.get(name, more), schemas) for name, item in value.items()
        )
    if kind == "array":
        return isinstance(value, list) and all(_fits(i, schema["items"], schemas) for i in value)
    python: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    if kind == "null":
        return value is None
    return kind is None or isinstance(value, python[kind])


async def test_is_a_complete_openapi_document() -> None:
    async with client() as http:
        assert_complete(await _document(http))


def assert_complete(document: dict[str, Any]) -> None:
    """Demand that all that a document refers to is in it, and described."""
    assert re.fullmatch(r"3\.[01]\.\d+", document["openapi"])
    assert document["info"]["title"]
    assert document["info"]["version"]
    for reference in _references(document):
        part: Any = document
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
    for path, method, operation in _operations(document):
        where = f"{method} {path}"
        assert path.startswith("/"), where
        assert operation["responses"], where
        assert all(answer["description"] for answer in operation["responses"].values()), where
        assert re.fullmatch(r"\d\d\d|default", next(iter(operation["responses"]))), where
        declared = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path)), where
        for parameter in operation.get("parameters", ()):
            assert parameter["schema"], where
            assert parameter["in"] != "query" or parameter["description"], where
            assert parameter["in"] != "path" or parameter["required"] is True, where
        for scheme in operation.get("security", ()):
            assert set(scheme) <= set(document["components"]["securitySchemes"]), where
    names = [o["operationId"] for _, _, o in _operations(document) if "operationId" in o]
    assert len(set(names)) == len(names)


async def test_says_the_whole_meaning_of_each_argument() -> None:
    async with client() as http:
        document = await _document(http)
    operation = document["paths"]["/api/admin/blocks"]["get"]
    meanings = {p["name"]: p.get("description") for p in operation["parameters"]}
    assert meanings["limit"] == "maximum number of rows."
    assert meanings["list"].endswith("(`keys`); closed `topics`.")
    for name, schema in document["components"]["schemas"].items():
        assert "Args:" not in schema.get("description", ""), name


async def test_holds_every_route_for_programs_and_no_page() -> None:
    async with client() as http:
        document = await _document(http)
    assert {(path, method) for path, method, _ in _operations(document)} == {
        ("/health", "get"),
        ("/health/live", "get"),
        ("/health/ready", "get"),
        ("/api/call/{method}", "post"),
        ("/api/messages", "post"),
        *(
            (f"/api/admin/{path}", "get")
            for path in (
                "explain",
                "nodes",
                "connections",
                "connections/{session}",
                "topics",
                "blocks",
            )
        ),
        *(
            (f"/api/admin/{verb}", "post")
            for verb in (
                *("announce", "block", "close", "delete", "disconnect", "open"),
                *("purge", "revoke", "unblock", "unsubscribe"),
            )
        ),
        ("/api/search", "get"),
        ("/api/topics/{topic}/messages", "get"),
        ("/api/topics/{topic}/messages", "post"),
        ("/api/topics/{topic}/messages/{seq}", "patch"),
        ("/api/topics/{topic}/messages/{seq}", "delete"),
        ("/api/topics/{topic}/messages/{seq}/append", "post"),
        ("/api/topics/{topic}/messages/{seq}/reactions", "post"),
        ("/api/topics/{topic}/position", "get"),
        ("/api/topics/{topic}/presence", "get"),
    }


async def test_says_what_a_request_must_have_and_fit() -> None:
    async with client() as http:
        document = await _document(http)
    explain = document["paths"]["/api/admin/explain"]["get"]["parameters"]
    assert {p["name"] for p in explain if p["required"]} == {"topic", "seq"}
    change = document["paths"]["/api/topics/{topic}/messages/{seq}"]["patch"]["parameters"]
    topic, seq = (parameter["schema"] for parameter in change)
    for name, fits in (("room:a", True), ("a:", False), ("a b", False), ("a\n", False)):
        assert bool(re.fullmatch(topic["pattern"].strip("^$"), name)) is fits, name
    assert (topic["maxLength"], seq["minimum"]) == (255, 1)
    # Python's end of a text means the letter in the patterns of JSON Schema.
    assert "\\\\Z" not in json.dumps(document)


async def test_agrees_with_the_answers() -> None:
    async with client() as http:
        document = await _document(http)
        schemas = document["components"]["schemas"]
        token = mint("ada", name="Ada")
        publication = {"data": {"any": ["thing"]}, "key": "k"}
        answers = [
            ("/health", "get", await http.ask("GET", "/health")),
            ("/health/live", "get", await http.ask("GET", "/health/live")),
            ("/health/ready", "get", await http.ask("GET", "/health/ready")),
        ]
        path = "/api/topics/{topic}/messages"
        for _ in range(2):
            answer = await http.ask("POST", MESSAGES, token=token, json=publication)
            answers.append((path, "post", answer))
        answers.append((path, "get", await http.ask("GET", MESSAGES, token=token)))
        answers.append((path, "get", await http.ask("GET", MESSAGES)))
        answers.append((path, "post", await http.ask("POST", MESSAGES, token=token, data=b"")))
        messages: list[dict[str, Any]] = [
            {"topic": "room:a", **publication},
            {"topic": "room:a", "data": {}},
            {"topic": "bad topic", "data": 1},
        ]
        batch = {"messages": messages}
        answers.append(
            ("/api/messages", "post", await http.ask("POST", BATCH, token=token, json=batch))
        )
        answers.append(
            ("/api/messages", "post", await http.ask("POST", BATCH, token=token, data=b""))
        )
        await http.node.drain.run()
        answers.append(("/health/ready", "get", await http.ask("GET", "/health/ready")))
        for path, method, response in answers:
            described = document["paths"][path][method]["responses"]
            answer = described.get(str(response.status_code), described.get("default"))
            schema = answer["content"][response.content_type]["schema"]
            assert _fits(await response.get_json(force=True), schema, schemas), (path, method)
        body = document["paths"][path]["get" if method == "get" else method]
        assert body
        request_schema = document["paths"]["/api/topics/{topic}/messages"]["post"]["requestBody"]
        assert _fits(publication, request_schema["content"]["application/json"]["schema"], schemas)
        request_schema = document["paths"]["/api/messages"]["post"]["requestBody"]
        assert _fits(batch, request_schema["content"]["application/json"]["schema"], schemas)


async def test_docs_show_it_with_nothing_from_elsewhere() -> None:
    async with client() as http:
        page = await http.ask("GET", "/docs")
        assert page.status_code == 200
        assert page.content_type.startswith("text/html")
        html = await page.get_data(as_text=True)
        for address in re.findall(r'(?:src|href)="([^"]+)"', html):
            assert not re.match(r"https?:|//", address), address
            if address.startswith("/"):
                assert (await http.ask("GET", address)).status_code == 200, address


async def test_can_be_switched_off() -> None:
    async with client(http__docs=False, http__page=False) as http:
        for path in ("/docs", "/openapi.json", "/", "/static/chat.js"):
            assert (await http.ask("GET", path)).status_code == 404


async def test_is_made_once_and_sent_to_who_has_it_not(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []
    schema = Provider.schema

    def counting(self: Provider) -> dict[str, Any]:
        made.append(True)
        return schema(self)

    monkeypatch.setattr(Provider, "schema", counting)
    async with client() as http:
        first = await http.ask("GET", "/openapi.json")
        second = await http.ask("GET", "/openapi.json")
        assert await first.get_data() == await second.get_data()
        headers = {"If-None-Match": first.headers["ETag"]}
        assert (await http.ask("GET", "/openapi.json", headers=headers)).status_code == 304
    assert made == [True]
