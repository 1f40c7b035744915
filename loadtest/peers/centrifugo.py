"""Centrifugo, configured as the chat server: history, recovery, tokens, one core, no log.

Centrifugo has the same secret and verifies the same tokens. It keeps as many messages for as long.
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

# Go's linker notes this version; the command `version` of a program installed by Go says 0.0.0.
_BUILD = re.compile(rb"\tgithub\.com/centrifugal/centrifugo/v\d+\t(v[\w.-]+)").search


def program() -> str | None:
    """Return the program named by the environment, or the program on the PATH; None without one."""
    return os.environ.get(VARIABLE) or shutil.which("centrifugo")


def version() -> str | None:
    """Return the program's version; None without a program.

    Raises:
        LoadError: the program cannot be read.
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
    """Run Centrifugo, with the Redis engine if there is a Redis, otherwise with the memory engine.

    Raises:
        LoadError: the program does not exist, or is not ready in time.
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
