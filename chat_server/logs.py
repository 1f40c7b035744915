"""Logging to stderr, as text for people or JSON lines for machines, without tokens.

A thread writes the lines: the caller never waits for stderr, possibly a pipe without a reader.
Lines that do not fit into the queue are dropped, and the log says how many.

Redaction works on the finished text, so secrets are found in the message, its arguments, extra
fields and exceptions alike.
"""

import json
import logging
import math
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Any, TextIO

from .linewriter import LineWriter
from .settings import LogSettings

logger = logging.getLogger(__name__)

MAX_KINDS = 1_000
"""Kinds of faults that a `LogThrottle` remembers; the kind noted first is forgotten first."""

SHOWN = 100
"""Characters of a client's text that a line shows."""

FLUSH_SECONDS = 1.0
"""Seconds that an ending process waits for a stderr that accepts no lines."""

CONNECTION: ContextVar[str] = ContextVar("connection", default="")
"""The connection that the current task works for; on each of its lines."""

REQUEST: ContextVar[str] = ContextVar("request", default="")
"""The id of the HTTP request that the current task works for; on each of its lines."""

_CONTEXT = {"connection": CONNECTION, "request_id": REQUEST}

_MASK = "********"

# Each alternative begins where its own text cannot have begun before, and repeats one class of
# characters: linear for any input.
_SECRETS = re.compile(
    r"""
      (?i: ( token=["']? | token\\?["']\s*:\s*\\?["'] ) ) [^&\s"'<>\\]+  # a query, a repr, JSON
    | (?i: ( \bbearer (?: [ \t]+ | %20 | [.:] ) ) )      [^\s"',;<>\\]+  # a header, a subprotocol
    | ( :// ) [^\s/@"']+ (?= @ )                         # the user and password of a URL
    | (?: (?<![\w-]) | (?<=%[0-9A-Fa-f]{2}) )            # a JWT: base64url of { and " or space
      e[wy][\w-]{15,} \. [\w-]+ (?: \.[\w-]* ){0,3}
    """,
    re.VERBOSE | re.ASCII,
)

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_RESERVED = frozenset(
    {"worker", "node", "time", "level", "pid", "process", "logger", "message", "exception"}
)


def configure(settings: LogSettings) -> None:
    """Send the lines of all loggers to stderr, in the form that `settings` choose.

    A second call replaces the handler of the first, and leaves the handlers of others alone.
    """
    handler = _StderrHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    for earlier in root.handlers[:]:
        if isinstance(earlier, _StderrHandler):
            root.removeHandler(earlier)
            earlier.close()
    root.addHandler(handler)
    root.setLevel(settings.level)
    # Operators' changes are logged at every log level.
    logging.getLogger("chat_server.audit").setLevel(logging.INFO)
    # These loggers report every connection's end, plugins, and each step of a request with its
    # contents: noise to an operator.
    for name in ("websockets", "alembic", "httpcore"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def identify(worker: int, node: str) -> None:
    """Name the worker on every further line in JSON.

    Args:
        worker: the worker's number.
        node: the worker's name for clients.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _StderrHandler) and isinstance(handler.formatter, JsonFormatter):
            handler.formatter.identity = {"worker": worker, "node": node}


def capture_stderr() -> None:
    """Log Python's own output to stderr: warnings and uncaught exceptions.

    Only for a process that is nothing but our server.
    """
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_uncaught_in_thread


def redact(text: str) -> str:
    """Return `text` with tokens and the passwords of URLs replaced by asterisks.

    A token is any text behind `token=`, `Bearer` or `bearer.`, and any text in the form of a JWT.
    """
    return _SECRETS.sub(_masked, text)


def shown(text: str | None) -> str:
    """Return the beginning of a client's text for a log line, or `none`.

    The formatters escape control characters.
    """
    if text is None:
        return "none"
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


class TextFormatter(logging.Formatter):
    """One line for each record, `TIME LEVEL [PID] LOGGER: MESSAGE KEY=VALUE`, then the traceback.

    Control characters are escaped and tracebacks indented, so that a user's text cannot pass for
    another log line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _extra(record))
        message = _escaped(_message(record))
        process = " ".join(filter(None, (_process(record), str(record.process))))
        head = f"{_time(record)} {record.levelname} [{process}] {record.name}: {message}{fields}"
        below = [f"    {_escaped(line)}" for line in _exception(record).split("\n") if line]
        return redact("\n".join([head, *below]))


class JsonFormatter(logging.Formatter):
    """One JSON object for each record, on one line of ASCII.

    Attributes:
        identity: fields of every line.
    """

    identity: Mapping[str, str | int] = MappingProxyType({})

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "pid": record.process,
            "process": _process(record) or "server",
            **self.identity,
            "logger": record.name,
            "message": redact(_message(record)),
        }
        for name, value in _extra(record):
            line[f"{name}_" if name in _RESERVED else name] = (
                redact(value) if isinstance(value, str) else value
            )
        if exception := _exception(record):
            line["exception"] = redact(exception)
        return json.dumps(line)


class _StderrHandler(logging.Handler):
    """The handler that `configure` installs, and recognizes by type."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        # The writer shares the handler's lock, which logging replaces in a forked process.
        self._writer = LineWriter(stream, self._describe_dropped, self.lock)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:
            # Left to itself logging would print message and arguments to stderr, tokens included.
            reason = f"a line of {record.name} cannot be formatted: {type(error).__name__}"
            line = self._own(logging.ERROR, reason)
        self._writer.write(line)

    def flush(self) -> None:
        self._writer.flush(FLUSH_SECONDS)

    def close(self) -> None:
        self._writer.close()
        super().close()

    def _describe_dropped(self, count: int) -> str:
        return self._own(logging.WARNING, f"{count} log lines were dropped: stderr took no more")

    def _own(self, level: int, message: str) -> str:
        return self.format(logger.makeRecord(logger.name, level, "", 0, message, (), None))


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logger.critical("an exception that nobody handles", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        kind, error, trace = arguments.exc_type, arguments.exc_value, arguments.exc_traceback
        logger.critical("an exception that ends a thread", exc_info=(kind, error, trace))


def _log_unraisable(arguments: "sys.UnraisableHookArgs") -> None:
    if arguments.exc_value is not None:
        kind, error, trace = arguments.exc_type, arguments.exc_value, arguments.exc_traceback
        message = arguments.err_msg or "an exception that cannot be raised"
        logger.error("%s in %r", message, arguments.object, exc_info=(kind, error, trace))


class LogThrottle:
    """Limits the log lines of a lasting fault.

    Args:
        seconds: between two lines of one kind of fault.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def due(self, kind: str) -> bool:
        """Return True if a line of this kind is due; the caller then logs it."""
        now = time.monotonic()
        if now - self._last.get(kind, -math.inf) < self._seconds:
            return False
        if len(self._last) >= MAX_KINDS:
            del self._last[next(iter(self._last))]
        self._last[kind] = now
        return True


def _masked(found: re.Match[str]) -> str:
    return f"{found[found.lastindex] if found.lastindex else ''}{_MASK}"


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def _process(record: logging.LogRecord) -> str:
    """Return multiprocessing's name of the process, or "" for the main process."""
    return "" if record.processName in (None, "MainProcess") else str(record.processName)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        # Left to itself logging would print message and arguments to stderr, tokens included.
        return f"{record.msg!r} (its arguments do not fit: {type(error).__name__})"


def _extra(record: logging.LogRecord) -> Iterator[tuple[str, str | int | float | None]]:
    given = vars(record)
    for name, variable in _CONTEXT.items():
        if name not in given and (id := variable.get()):
            yield name, id
    for name, value in given.items():
        if name not in _STANDARD:
            plain = value is None or isinstance(value, str | int)
            finite = isinstance(value, float) and math.isfinite(value)
            yield name, value if plain or finite else repr(value)


def _exception(record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _quoted(value: object) -> str:
    if isinstance(value, str) and (not value or not value.isprintable() or set(value) & set(' "=')):
        return json.dumps(value)
    return str(value)


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
