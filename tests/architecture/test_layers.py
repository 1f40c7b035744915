"""Imports point downwards only: the table below is the architecture."""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from .source import PACKAGE, ROOT, Module, imports, read


@dataclass(frozen=True)
class May:
    """What a package may import besides itself and the standard library."""

    internal: tuple[str, ...] = ()
    third_party: tuple[str, ...] = ()


LEAVES = (
    "addresses",
    "changes",
    "clock",
    "cursors",
    "events",
    "files",
    "logs",
    "metrics",
    "orders",
    "presence",
    "rates",
    "settings",
    "turns",
    "version",
)
CORE = ("protocol", "auth", "hooks", "realtime", "service", *LEAVES)
QUART = ("quart", "quart_cors", "quart_schema", "werkzeug", "hypercorn")

RULES = {
    "": May(
        (
            "app",
            "extension",
            "accounts.access",
            "hooks",
            "outbox",
            "protocol",
            "settings",
            "version",
        )
    ),
    "__main__": May(("cli",)),
    "cli": May(("server", "app", "client", "auth", "protocol", *LEAVES), ("click", "msgspec")),
    "cli.archive": May(
        ("archive", "database", "jobs", "protocol", "user_data", *LEAVES), ("click",)
    ),
    "cli.doctor": May(
        ("server", "broker.redis.inspection", "client", "protocol", *LEAVES),
        ("click", "msgspec", "websockets"),
    ),
    "cli.database": May(("database", "protocol.errors", *LEAVES), ("click", "sqlalchemy")),
    "cli.outbox": May(
        ("database", "outbox", "protocol", *LEAVES), ("click", "msgspec", "sqlalchemy")
    ),
    "cli.webhooks": May(("database", "protocol.errors", "webhooks", *LEAVES), ("click", "msgspec")),
    "cli.users": May(
        ("accounts", "database", "mail", "protocol", *LEAVES), ("click", "sqlalchemy")
    ),
    "server": May(
        (
            "app",
            "extension",
            "broker.factory",
            "broker.redis.urls",
            "transports",
            "http",
            "linewriter",
            *CORE,
        ),
        (*QUART, "h11", "httptools", "msgspec", "uvloop", "click"),
    ),
    "server.certificates": May(("files", "http.health", "settings"), ("cryptography",)),
    "app": May(("extension", "http", *CORE), QUART),
    "extension": May(
        (
            "http",
            "transports",
            "broker",
            "accounts",
            "database",
            "following",
            "outbox",
            "jobs",
            "parts",
            "operators",
            *CORE,
        ),
        ("quart", "sqlalchemy"),
    ),
    "parts": May(
        (
            *("accounts", "database", "following", "jobs", "operators.kept", "realtime.ports"),
            *("service.service", "tracing.tracing", "user_data", *LEAVES),
        )
    ),
    "tracing": May(CORE, ("opentelemetry", "quart")),
    # Exports and erasures: rows of the archive, and messages of the store by the service.
    "user_data": May(
        ("accounts", "archive", "database", "jobs", "protocol", "service", *LEAVES),
        ("msgspec", "sqlalchemy"),
    ),
    "http": May(("accounts", "operators", "user_data", *CORE), (*QUART, "msgspec")),
    # Close connections, and so know what one is.
    "operators": May(("sessions", *CORE), ("msgspec",)),
    "operators.kept": May(("database", *LEAVES), ("sqlalchemy",)),
    # A WebSocket comes to the service by a connection, which is a session's; a request of HTTP
    # comes to the service at once. The service stands on a worker's topics, limits and broker.
    "transports": May(("sessions", *CORE), (*QUART, "websockets", "msgspec")),
    "sessions": May(CORE, ("msgspec",)),
    "service": May(("protocol", "auth", "hooks", "realtime", *LEAVES), ("msgspec", "regex")),
    "hooks": May(("protocol", "auth", *LEAVES), ("msgspec",)),
    "realtime": May(("protocol", "auth", *LEAVES), ("msgspec",)),
    # `realtime.ports` is the contract that brokers keep.
    "broker": May(("protocol", "realtime.ports", *LEAVES), ("redis", "hiredis", "msgspec")),
    "broker.redis.urls": May(),
    # Consumers of the log have their cursors where they like, and hear of a store by its contract.
    "consumers": May(("protocol.errors", "realtime.ports", *LEAVES), ("msgspec",)),
    "archive": May(
        (
            "consumers",
            "database",
            "broker.folding",
            "broker.topic_log",
            "protocol",
            "realtime.ports",
            "realtime.searching",
            *LEAVES,
        ),
        ("msgspec", "sqlalchemy"),
    ),
    # What lasts. Whoever keeps tables in it imports it, never the other way round.
    "database": May(("protocol.errors", *LEAVES), ("sqlalchemy", "alembic")),
    "database.migrations": May(("database",), ("sqlalchemy", "alembic")),
    "database.urls": May(),
    "outbox": May(
        ("database", "service.publishing", "protocol", *LEAVES), ("sqlalchemy", "msgspec")
    ),
    # Users with passwords. Of these `names` and `refresh` know no database.
    "accounts": May(
        ("database", "jobs", "mail", "protocol", "auth", *LEAVES),
        ("sqlalchemy", "msgspec", "argon2", "regex"),
    ),
    "accounts.names": May((), ("regex",)),
    "accounts.refresh": May((), ("msgspec",)),
    "mail": May(LEAVES, ("aiosmtplib",)),
    # What pydocket raises is redis-py's.
    "jobs": May(("protocol.errors", *LEAVES), ("docket", "redis", "msgspec")),
    # Runs those who read the log, in one process at a time.
    "following": May(("archive", "consumers", "database", "realtime.ports", "webhooks", *LEAVES)),
    # Tells endpoints of what consumers take; keeps in the database how far each has come.
    "webhooks": May(
        ("auth.permissions", "consumers", "database", "protocol.errors", *LEAVES),
        ("httpcore", "msgspec", "sqlalchemy"),
    ),
    "webhooks.addresses": May(),
    "webhooks.signing": May(),
    "auth": May(("protocol", *LEAVES), ("msgspec",)),
    "auth.patterns": May(("protocol",)),
    "auth.keys": May(("protocol", *LEAVES), ("msgspec", "jwt", "cryptography")),
    "auth.tokens": May(("protocol", *LEAVES), ("msgspec", "jwt")),
    "protocol": May(("events", "rates"), ("msgspec",)),
    "rates": May((), ("msgspec",)),
    "turns": May(),
    "events": May(("rates",), ("msgspec",)),
    "changes": May(("events", "rates"), ("msgspec",)),
    "cursors": May(("events",), ("msgspec",)),
    "orders": May((), ("msgspec",)),
    "presence": May((), ("msgspec",)),
    "addresses": May(),
    "client": May(("events", "protocol"), ("websockets", "msgspec")),
    # The rules for settings check `redis.url` and `database.url` with the parsers of those who use
    # them, webhooks likewise, and the patterns of `auth.default_topics` as those of tokens.
    "settings": May(
        (
            *("broker.redis.urls", "database.urls", "auth.patterns"),
            *("files", "rates", "webhooks.addresses", "webhooks.signing"),
        ),
        ("msgspec",),
    ),
    "logs": May(("linewriter", "settings"), ("msgspec",)),
    "linewriter": May(),
    "metrics": May((), ("prometheus_client",)),
    "clock": May(),
    "files": May(),
    "version": May(),
}
"""By package or module, of which the longest match counts; what has no rule may not exist."""


def violations(modules: Iterable[Module]) -> Iterator[str]:
    """Yield one line for each import that `RULES` does not allow."""
    modules = list(modules)
    known = {module.name for module in modules}
    for module in modules:
        rule = _match(module.name, RULES)
        if rule is None:
            yield f"{module.path}: no rule for {PACKAGE}.{module.name}"
            continue
        own = module.name.partition(".")[0]
        for found in imports(module, known):
            if found.internal:
                allowed = _match(found.target, (*RULES[rule].internal, own)) is not None
            else:
                allowed = found.target in (*RULES[rule].third_party, *sys.stdlib_module_names)
            if not allowed:
                target = f"{PACKAGE}.{found.target}" if found.internal else found.target
                yield f"{module.path}:{found.line}: must not import {target}"


def _match(name: str, rules: Iterable[str]) -> str | None:
    """Return the longest of `rules` that is `name` or one of its parents; "" is only itself."""
    fitting = [rule for rule in rules if name == rule or (rule and name.startswith(f"{rule}."))]
    return max(fitting, key=len, default=None)


def test_imports_point_downwards() -> None:
    assert list(violations(read(ROOT / PACKAGE))) == []


def test_no_module_imports_itself_through_others() -> None:
    modules = read(ROOT / PACKAGE)
    known = {module.name for module in modules}
    graph = {
        module.name: {found.target for found in imports(module, known) if found.internal}
        - {module.name}
        for module in modules
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def _modules(**sources: str) -> list[Module]:
    """Make modules from sources; in a name, `__` stands for a dot and a last `_` for a package."""
    return [
        Module(
            name.rstrip("_").replace("__", "."),
            Path("__init__.py" if name.endswith("_") else f"{name}.py"),
            ast.parse(source),
        )
        for name, source in sources.items()
    ]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"protocol__codecs": "import msgspec, json"}, []),
        ({"protocol__codecs": "import asyncio.streams, redis.asyncio"}, ["import redis"]),
        ({"protocol__codecs": "from redis.asyncio import Redis"}, ["import redis"]),
        ({"protocol__codecs": "def f():\n    import quart"}, ["import quart"]),
        ({"protocol__a": "from .b import c", "protocol__b": ""}, []),
        ({"protocol__a": "from ..auth import b", "auth_": ""}, ["import chat_server.auth"]),
        ({"protocol__a": "from .. import auth", "auth_": ""}, ["import chat_server.auth"]),
        ({"auth__a": "from ..version import __version__", "version": ""}, []),
        ({"auth__a": "from .. import __version__"}, ["import chat_server."]),
        ({"protocol_": "from ..auth import b", "auth_": ""}, ["import chat_server.auth"]),
        ({"protocol_": "from .b import c", "protocol__b": ""}, []),
        ({"broker__memory": "from ..realtime.ports import Listener", "realtime__ports": ""}, []),
        ({"broker__memory": "from ..realtime.hub import Hub", "realtime__hub": ""}, 1),
        ({"realtime__hub": "from ..service.service import Service", "service__service": ""}, 1),
        ({"service__service": "import chat_server.sessions", "sessions_": ""}, 1),
        ({"realtime__node": "import chat_server.broker.common", "broker__common": ""}, 1),
        ({"realtime__node": "from chat_server import broker", "broker_": ""}, 1),
        ({"auth__tokens": "import jwt"}, []),
        ({"auth__permissions": "import jwt"}, ["import jwt"]),
        ({"client__a": "from ..protocol import b", "protocol__b": "", "protocol_": ""}, []),
        ({"client__a": "from ..settings import Settings", "settings": ""}, 1),
        ({"settings": "from .app import create_app", "app": ""}, ["import chat_server.app"]),
        ({"novelty": ""}, ["no rule for chat_server.novelty"]),
    ],
)
def test_the_checker_sees_what_it_should(
    sources: dict[str, str], expected: list[str] | int
) -> None:
    found = list(violations(_modules(**{"_": "", **sources})))
    if isinstance(expected, int):
        assert len(found) == expected
    else:
        assert len(found) == len(expected)
        assert all(line.endswith(end) for line, end in zip(found, expected, strict=True))


def test_a_relative_import_beyond_the_package_is_an_error() -> None:
    with pytest.raises(ImportError, match="beyond the package"):
        list(violations(_modules(protocol__a="from ... import b")))


PUBLISHING = {"publish", "signal"}
"""Methods of the broker that only the service may call: it checks who asks for what."""

BELOW_THE_SERVICE = ("service", "broker")
CLIENTS = ("client", "cli")
"""These publish over the network; a server that checks is at the other end."""


def publishers(modules: Iterable[Module]) -> Iterator[str]:
    """Yield one line for each call that publishes around the service."""
    for module in modules:
        if module.name.partition(".")[0] in (*BELOW_THE_SERVICE, *CLIENTS):
            continue
        for node in ast.walk(module.tree):
            if not (isinstance(node, ast.Attribute) and node.attr in PUBLISHING):
                continue
            # `ChatServer.publish` itself goes to the service.
            if module.name == "extension" and ast.unparse(node) == "self.publish":
                continue
            # Workers talk among themselves, in what is no topic.
            if module.name == "operators.exchange":
                continue
            if not (isinstance(node.value, ast.Name) and node.value.id == "signal"):
                yield f"{module.path}:{node.lineno}: {ast.unparse(node)}"


def test_nothing_publishes_around_the_service() -> None:
    assert list(publishers(read(ROOT / PACKAGE))) == []


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("realtime__connection", "self._node.broker.publish(draft)", True),
        ("http__messages", "send = node.broker.signal", True),
        ("extension", "self.node.broker.publish(draft)", True),
        ("service__publishing", "service.node.broker.publish(draft)", False),
        ("broker__outbox", "self._store.publish(draft)", False),
        ("client__bulk", "self._chat.publish(topic, data)", False),
        ("server__worker", "import signal; signal.signal(signal.SIGTERM, f)", False),
    ],
)
def test_the_checker_sees_who_publishes(module: str, source: str, found: bool) -> None:
    assert bool(list(publishers(_modules(**{module: source})))) == found
