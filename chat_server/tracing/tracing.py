"""Spans of publications: the command, the store, hooks, and the fan-out on this worker.

The traced functions are wrapped once, at the start. Without `[tracing]` no function is wrapped, and
OpenTelemetry is not imported. Names and attributes follow the semantic conventions for messaging.
"""

import asyncio
import logging
import time
from asyncio import CancelledError, Future
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from quart import Quart, request

from ..events import Event, PublishResult
from ..hooks.registry import Hook
from ..hooks.runner import Runner
from ..logs import LogThrottle
from ..protocol.commands import Append, Call, Command, Delete, Edit, Publish, React, Signal
from ..protocol.errors import ChatError
from ..protocol.messages import Ok
from ..realtime.hub import Hub
from ..realtime.ports import Broker
from ..service.actor import Actor
from ..service.answers import Answer
from ..service.service import Service
from ..settings import TracingSettings
from ..version import __version__

STOP_SECONDS: Final = 5.0
"""Maximum seconds to send the remaining spans at the end."""

MAX_UNHEARD: Final = 1_000
"""Maximum number of publications that this worker has stored but not heard, or the reverse."""

_OPERATIONS: Final[dict[type[Command], str]] = {
    Publish: "publish",
    Signal: "signal",
    Edit: "edit",
    Append: "append",
    Delete: "delete",
    React: "react",
    Call: "call",
}

logger = logging.getLogger(__name__)

_Place = tuple[str, str, int]
"""Topic, epoch and seq of an event."""


class Tracing:
    """Makes spans and sends them in the background.

    Args:
        settings: the address of the collector, and the sampled part.
        node: the name of this worker.
        exporter: takes the spans; OTLP over HTTP if None.
    """

    def __init__(
        self, settings: TracingSettings, node: str, exporter: SpanExporter | None = None
    ) -> None:
        # OpenTelemetry's own loggers would log each attempt, with tracebacks.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        about = {
            "service.name": "chat-server",
            "service.version": __version__,
            "service.instance.id": node,
        }
        # The environment has precedence.
        self._provider = TracerProvider(
            resource=Resource.create(about).merge(OTELResourceDetector().detect()),
            sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
        )
        made = exporter or OTLPSpanExporter(endpoint=settings.url or None)
        self._exporter = _Throttled(made)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("chat_server", __version__)
        # Publications whose other half has not come yet, the oldest first.
        self._stored: OrderedDict[_Place, Context] = OrderedDict()
        self._heard: OrderedDict[_Place, tuple[int, int]] = OrderedDict()

    async def stop(self) -> None:
        """Send the remaining spans, within `STOP_SECONDS`."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(done.set)

        # A daemon thread, because an unavailable collector may be tried for a minute.
        Thread(target=end, name="tracing", daemon=True).start()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await done.wait()
        except TimeoutError:
            logger.warning("the last spans could not be sent in %g s", STOP_SECONDS)
            self._exporter.shutdown()

    def register(self, app: Quart) -> None:
        """Make requests continue the trace of their `traceparent` (W3C Trace Context)."""

        async def join_trace() -> None:
            contexts.attach(extract(request.headers))

        app.before_request(join_trace)

    def watch(self, service: Service, system: str) -> None:
        """Trace a worker from now on.

        Args:
            service: the worker's service.
            system: the name of the store, as in `db.system.name`.
        """
        self._watch_service(service)
        self._watch_broker(service.node.broker, system)
        self._watch_hub(service.node.hub)

    def _watch_service(self, service: Service) -> None:
        """Make a span for each command that publishes or calls."""
        execute = service.execute

        def traced(actor: Actor, command: Command, *, authorized: bool = False) -> Any:
            operation = _OPERATIONS.get(command.__class__)
            if operation is None:
                return execute(actor, command, authorized=authorized)
            span = self._tracer.start_span(
                _name(operation, command), kind=SpanKind.SERVER, attributes=_about(command)
            )
            within = trace.set_span_in_context(span)
            try:
                with _current(within):
                    reply = execute(actor, command, authorized=authorized)
            except BaseException as error:
                _end(span, error)
                raise
            if isinstance(reply, Answer):
                return _ending(reply, span)
            if hasattr(reply, "__await__"):
                return self._follow(reply, span, within)
            span.end()
            return reply

        setattr(service, "execute", traced)  # noqa: B010 - mypy would refuse an assignment

    async def _follow(self, reply: Any, span: Span, within: Context) -> Any:
        try:
            with _current(within):
                ok = await reply
        except BaseException as error:
            _end(span, error)
            raise
        span.end()
        return ok

    def _watch_broker(self, broker: Broker, system: str) -> None:
        """Make a span for each write to the store, inside the span of its command."""
        for name in ("publish", "change"):
            setattr(broker, name, self._storing(getattr(broker, name), name, system))

    def _storing(self, store: Callable[[Any], Any], name: str, system: str) -> Callable[..., Any]:
        def traced(draft: Any) -> "Future[Any]":
            parent = contexts.get_current()
            if not trace.get_current_span(parent).is_recording():
                future: Future[Any] = store(draft)
                return future
            attributes = {"db.system.name": system, "db.operation.name": name}
            span = self._tracer.start_span("store", kind=SpanKind.CLIENT, attributes=attributes)
            future = store(draft)

            def on_stored(done: "Future[Any]") -> None:
                _end_with(span, done)
                if not done.cancelled() and done.exception() is None:
                    result = done.result()
                    places = [result] if isinstance(result, PublishResult) else result.places
                    for each in places:
                        self._on_stored((draft.topic, each.epoch, each.seq), parent)

            future.add_done_callback(on_stored)
            return future

        return traced

    def _watch_hub(self, hub: Hub) -> None:
        """Make a span for the fan-out of events that this worker has stored itself.

        The trace does not cross Redis: every event would have to carry the trace to all workers.
        """
        on_events = hub.on_events

        def traced(events: Sequence[Event]) -> None:
            begin = time.time_ns()
            on_events(events)
            end = time.time_ns()
            for event in events:
                if event.stored:
                    self._on_heard((event.topic, event.epoch, event.seq), (begin, end))

        setattr(hub, "on_events", traced)  # noqa: B010

    def _on_stored(self, place: _Place, parent: Context) -> None:
        times = self._heard.pop(place, None)
        if times is not None:
            self._fan_out(parent, times)
        else:
            _keep(self._stored, place, parent)

    def _on_heard(self, place: _Place, times: tuple[int, int]) -> None:
        parent = self._stored.pop(place, None)
        if parent is not None:
            self._fan_out(parent, times)
        else:
            _keep(self._heard, place, times)

    def _fan_out(self, parent: Context, times: tuple[int, int]) -> None:
        begin, end = times
        self._tracer.start_span("fan out", context=parent, start_time=begin).end(end)

    def watch_hooks(self, runner: Runner) -> None:
        """Make a span for each asked hook, inside the span of its command."""
        run = runner.run

        async def traced(hook: Hook, subject: object) -> Any:
            if not trace.get_current_span().is_recording():
                return await run(hook, subject)
            span = self._tracer.start_span(f"hook {hook.name}")
            try:
                with _current(trace.set_span_in_context(span)):
                    result = await run(hook, subject)
            except BaseException as error:
                _end(span, error)
                raise
            span.end()
            return result

        setattr(runner, "run", traced)  # noqa: B010


class _Throttled(SpanExporter):
    """Logs at most once a minute that spans cannot be sent.

    Args:
        exporter: sends the spans.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._throttle = LogThrottle()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter`."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # the library's transport may raise any error
            result = SpanExportResult.FAILURE
            reason = type(error).__name__
        else:
            reason = "the collector does not take them"
        if result is not SpanExportResult.SUCCESS and self._throttle.due(""):
            logger.warning("%d spans are lost: %s", len(spans), reason)
        return result

    def shutdown(self) -> None:
        """See `SpanExporter`."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See `SpanExporter`."""
        return self._exporter.force_flush(timeout_millis)


def _name(operation: str, command: Command) -> str:
    topic = getattr(command, "topic", "")
    # Only the namespace, because span names must be few.
    return f"{operation} {topic.partition(':')[0]}".rstrip()


def _about(command: Command) -> dict[str, str]:
    operation = _OPERATIONS[command.__class__]
    attributes = {"messaging.system": "chat_server", "messaging.operation.name": operation}
    if topic := getattr(command, "topic", ""):
        attributes["messaging.destination.name"] = topic
    return attributes


@contextmanager
def _current(context: Context) -> Iterator[None]:
    token = contexts.attach(context)
    try:
        yield
    finally:
        contexts.detach(token)


def _keep(kept: "OrderedDict[_Place, Any]", place: _Place, value: object) -> None:
    kept[place] = value
    if len(kept) > MAX_UNHEARD:
        kept.popitem(last=False)


def _ending(answer: Answer, span: Span) -> Answer:
    """Return an answer that ends a span."""

    def make_ok(outcome: Any) -> Ok:
        try:
            ok = answer.make_ok(outcome)
        except BaseException as error:
            _end(span, error)
            raise
        span.end()
        return ok

    def on_done(done: "Future[Any]") -> None:
        if done.cancelled() or done.exception() is not None:
            _end_with(span, done)

    answer.future.add_done_callback(on_done)
    return Answer(answer.future, make_ok)


def _end_with(span: Span, done: "Future[Any]") -> None:
    _end(span, CancelledError() if done.cancelled() else done.exception())


def _end(span: Span, error: BaseException | None) -> None:
    """End a span. Only the kind of an error is recorded, because the text may be a user's."""
    if error is not None:
        kind = error.code if isinstance(error, ChatError) else type(error).__name__
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR))
    span.end()
