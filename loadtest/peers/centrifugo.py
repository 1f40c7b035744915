"""Centrifugo, set up as the chat server is: a history, recovery, tokens, one core, no log.

It verifies the same tokens, for it gets the same secret, and keeps as many messages for as long.
https://centrifugal.dev/docs/server/configuration
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chat_server.settings import Namespace, load_settings

from ..dialects import API_KEY
from ..server import Target, answers, launched, server_cores
from ..wire import LoadError

TITLE = "Centrifugo"
VARIABLE = "CENTRIFUGO"

# What Go's linker notes, for the command `version` of a program that Go installed says 0.0.0.
_BUILD = re.compile(rb"\tgithub\.com/centrifugal/centrifugo/v\d+\t(v[\w.-]+)").search


def program() -> str | None:
    """Return the program that the environment names, or the one on the PATH; None for none."""
    return os.environ.get(VARIABLE) or shutil.which("centrifugo")


def version() -> str | None:
    """Return the program's version, None where there is no program.

    Raises:
        LoadError: it cannot be read.
    """
    found = program()
    if found is None:
        return None
    try:
        build = _BUILD(Path(found).read_bytes())
    except OSError as error:
        raise LoadError(f"{found} cannot be read: {error}") from None
    return build[1].decode() if build else "of unknown version"


@contextmanager
def centrifugo(
    port: int, redis_url: str | None = None, *, to: Sequence[int] = ()
) -> Iterator[Target]:
    """Run it, with the Redis engine if there is a Redis, else with the one in memory.

    Raises:
        LoadError: there is no such program, or it does not get ready.
    """
    found = program()
    if found is None:
        raise LoadError(f"neither {VARIABLE} nor the PATH names a Centrifugo")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(_config(port, redis_url)))
        with launched(
            [found, "--config", str(config)],
            ready=lambda: answers(f"http://127.0.0.1:{port}/health"),
            to=to or server_cores(),
        ) as pid:
            yield Target(TITLE, "centrifugo", port, pid=pid)


def _config(port: int, redis_url: str | None) -> dict[str, object]:
    ours = Namespace()
    engine: dict[str, object] = {"type": "memory"}
    if redis_url is not None:
        engine = {"type": "redis", "redis": {"address": redis_url}}
    return {
        "http_server": {"address": "127.0.0.1", "port": port},
        "http_api": {"key": API_KEY},
        "health": {"enabled": True},
        "log": {"level": "none"},
        "engine": engine,
        "client": {
            "token": {"hmac_secret_key": load_settings().auth.secret},
            "ping_interval": "1h",
        },
        "channel": {
            "namespaces": [
                {
                    "name": "room",
                    "history_size": ours.history_size,
                    "history_ttl": f"{ours.history_seconds:g}s",
                    "force_recovery": True,
                    "allow_subscribe_for_client": True,
                    "allow_publish_for_client": True,
                }
            ]
        },
    }
