"""Traces, as a collector gets them by OTLP over HTTP."""

import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from chat_server.app import create_app
from chat_server.extension import ChatServer
from chat_server.hooks import Publication
from chat_server.settings import Settings
from tests.rig.chat_client import chat
from tests.rig.ports import free_port
from tests.rig.raw_client import request
from tests.rig.server import mint
from tests.rig.webhook_receiver import Received, WebhookReceiver, answering
from tests.server.inprocess import make_settings, serving

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
PATH = "/api/topics/room:a/messages"


def traced(url: str, **flags: object) -> Settings:
    return make_settings(tracing__enabled=True, tracing__url=url, **flags)


def publishing(*more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {mint('ada')}", **dict(line.split("=", 1) for line in more)}


def spans_of(requests: Sequence[Received]) -> list[dict[str, Any]]:
    """Return what a collector was sent, by the parts that the tests look at."""
    found = []
    for each in requests:
        body = ExportTraceServiceRequest.FromString(each.body)
        for resource in body.resource_spans:
            about = {a.key: a.value.string_value for a in resource.resource.attributes}
            found += [
                {
                    "service": about["service.name"],
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    # Of a hook without the module and the test around it.
                    "name": re.sub(r"^hook .*\.", "hook ", span.name),
                    "failed": span.status.code == 2,
                    **{a.key: a.value.string_value for a in span.attributes},
                }
                for scope in resource.scope_spans
                for span in scope.spans
            ]
    return found


async def test_a_publication_is_traced_from_the_request_to_the_fan_out() -> None:
    async with WebhookReceiver(answering(200)) as collector:
        app = create_app(traced(collector.url))
        server: ChatServer = app.extensions["chat_server"]

        @server.on_publish("room:*")
        async def look(publication: Publication) -> None:
            pass

        async with (
            serving(server.settings, app=app) as served,
            await chat(served.ws_url, mint("bob")) as bob,
        ):
            await bob.ok(type="subscribe", topic="room:a")
            headers = publishing(f"traceparent={PARENT}")
            body = b'{"data":"secret words"}'
            answer = await request(served.port, "POST", PATH, body=body, headers=headers)
            assert answer.status == 201
            assert (await bob.next())["data"] == "secret words"
            await bob.ok(type="publish", topic="room:a", data=1)
        spans = spans_of(collector.requests)
    by_name = {span["name"]: span for span in spans if span["trace"] == TRACE}
    assert set(by_name) == {"publish room", "hook look", "store", "fan out"}
    publish = by_name["publish room"]
    assert publish["parent"] == "b7ad6b7169203331"
    assert publish["service"] == "chat-server"
    assert publish["messaging.destination.name"] == "room:a"
    assert publish["messaging.operation.name"] == "publish"
    assert {by_name[name]["parent"] for name in ("hook look", "store", "fan out")} == {
        publish["id"]
    }
    assert by_name["store"]["db.system.name"] == "memory"
    # What came by WebSocket begins a trace of its own.
    others = {span["name"] for span in spans if span["trace"] != TRACE}
    assert others == {"publish room", "hook look", "store", "fan out"}
    assert not any(span["failed"] for span in spans)
    assert b"secret words" not in b"".join(each.body for each in collector.requests)


async def test_a_refusal_is_told_by_its_code() -> None:
    async with WebhookReceiver(answering(200)) as collector:
        async with serving(traced(collector.url)) as served:
            body = b'{"data":1}'
            path = "/api/topics/room:a/messages/7"
            answer = await request(served.port, "PATCH", path, body=body, headers=publishing())
            assert answer.status == 404
        spans = spans_of(collector.requests)
    [edit] = [span for span in spans if span["name"] == "edit room"]
    assert (edit["failed"], edit["error.type"]) == (True, "not_found")


async def test_only_a_part_is_traced_if_the_settings_say_so() -> None:
    async with WebhookReceiver(answering(200)) as collector:
        settings = traced(collector.url, tracing__sample_ratio=0)
        async with serving(settings) as served:
            for headers in (publishing(), publishing(f"traceparent={PARENT}")):
                body = b'{"data":1}'
                answer = await request(served.port, "POST", PATH, body=body, headers=headers)
                assert answer.status == 201
        assert {span["trace"] for span in spans_of(collector.requests)} == {TRACE}


async def test_a_collector_that_is_away_costs_nobody_a_publication(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(traced(f"http://127.0.0.1:{free_port()}/v1/traces")) as served:
        answer = await request(served.port, "POST", PATH, body=b'{"data":1}', headers=publishing())
        assert answer.status == 201
    lines = [each for each in caplog.records if each.name.startswith(("chat_server", "opentel"))]
    said = [each.getMessage() for each in lines]
    assert "the last spans could not be sent in 5 s" in said
    assert not any(each.exc_info for each in lines)


def test_a_server_that_does_not_trace_imports_nothing_for_it() -> None:
    # OpenTelemetry itself is not looked for: redis-py 8.1 imports it wherever it is installed.
    program = (
        "import sys\n"
        "from chat_server.app import create_app\n"
        "from chat_server.settings import load_settings\n"
        "create_app(load_settings(environ={'CHAT_ENVIRONMENT': 'testing'}))\n"
        "sys.exit(any(name.startswith('chat_server.tracing') for name in sys.modules))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
