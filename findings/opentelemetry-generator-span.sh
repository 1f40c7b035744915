#!/usr/bin/env bash
# opentelemetry-sdk 1.45.2: a generator that is decorated with start_as_current_span() runs outside of its span.
#
# Expected: `@tracer.start_as_current_span("name")` puts what the body does into the span, as in functions and coroutines.
# Observed: the span is over before the first item. What a generator or asynchronous generator does belongs to the caller's span, or to
# none, and when it raises the span has no error. Nothing warns. Issue 3270 of open-telemetry/opentelemetry-python had the same
# with coroutines, which were mended.
# It matters to who traces answers that are streamed: write `with tracer.start_as_current_span("name"):` around the work inside.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opentelemetry-sdk==1.45.2
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("finding")
inside = {}


def fail(kind: str) -> None:
    """Note in which span this runs, and raise."""
    inside[kind] = getattr(trace.get_current_span(), "name", None)
    raise ValueError("no more")


@tracer.start_as_current_span("function")
def function() -> None:
    fail("function")


@tracer.start_as_current_span("coroutine")
async def coroutine() -> None:
    fail("coroutine")


@tracer.start_as_current_span("generator")
def generator() -> Iterator[int]:
    yield 1
    fail("generator")


@tracer.start_as_current_span("asynchronous generator")
async def asynchronous_generator() -> AsyncIterator[int]:
    yield 1
    fail("asynchronous generator")


async def all_items() -> list[int]:
    return [item async for item in asynchronous_generator()]


for work in (function, lambda: asyncio.run(coroutine()), lambda: list(generator()), lambda: asyncio.run(all_items())):
    try:
        work()
    except ValueError:
        continue
print("opentelemetry-sdk", version("opentelemetry-sdk"))
seen = {span.name: (inside[span.name], span.status.status_code.name) for span in exporter.get_finished_spans()}
for kind, (name, status) in seen.items():
    print(f"the {kind} ran in the span {name}, and its span has the status {status}")
sys.exit(
    seen
    != {
        "function": ("function", "ERROR"),
        "coroutine": ("coroutine", "ERROR"),
        "generator": (None, "UNSET"),
        "asynchronous generator": (None, "UNSET"),
    }
)
PYTHON
