#!/usr/bin/env bash
# opentelemetry-sdk 1.45.2: the span of work that was cancelled, or ran into asyncio.timeout(), looks like one that succeeded.
#
# Expected: an exception that leaves `with tracer.start_as_current_span(…)` is recorded and sets the status ERROR, as both parameters for it
# say, which are True by default: "record_exception: Whether to record any exceptions raised within the context".
# Observed: only subclasses of Exception are. asyncio.CancelledError, which asyncio.timeout() makes inside, and SystemExit and
# KeyboardInterrupt leave a span with the status UNSET and no event. With `asyncio.timeout()` inside of the span it has ERROR.
# It matters to who searches for requests that failed: those that were too slow are not among them. Open the span around the time-out.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opentelemetry-sdk==1.45.2
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import sys
from importlib.metadata import version

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("finding")


def raises(error: BaseException) -> None:
    with tracer.start_as_current_span(type(error).__name__):
        raise error


async def span_inside() -> None:
    async with asyncio.timeout(0.01):
        with tracer.start_as_current_span("inside of the time-out"):
            await asyncio.Event().wait()


async def span_around() -> None:
    with tracer.start_as_current_span("around the time-out"):
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()


for work in (
    lambda: raises(ValueError()),
    lambda: raises(SystemExit(1)),
    lambda: raises(KeyboardInterrupt()),
    lambda: asyncio.run(span_inside()),
    lambda: asyncio.run(span_around()),
):
    try:
        work()
    except BaseException:
        continue
print("opentelemetry-sdk", version("opentelemetry-sdk"))
seen = {span.name: (span.status.status_code.name, len(span.events)) for span in exporter.get_finished_spans()}
for name, (status, events) in seen.items():
    print(f"{name}: status {status}, {events} events")
sys.exit(
    seen
    != {
        "ValueError": ("ERROR", 1),
        "SystemExit": ("UNSET", 0),
        "KeyboardInterrupt": ("UNSET", 0),
        "inside of the time-out": ("UNSET", 0),
        "around the time-out": ("ERROR", 1),
    }
)
PYTHON
