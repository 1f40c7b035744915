"""The application under an ASGI server that is not ours."""

import sys
from collections.abc import Mapping

from tests.rig.server import ServerProcess

from .differences import way


class StockHypercorn(ServerProcess):
    """Hypercorn as it comes, in one process: no socket can be taken away from it.

    Args:
        environ: see `ServerProcess`.
    """

    def __init__(self, *, environ: Mapping[str, str] | None = None) -> None:
        super().__init__(environ=environ)
        # 0 is the process itself, which the tests measure; what is open at the end is of tests.
        flags = ("--bind", f"127.0.0.1:{self.port}", "--workers", "0", "--graceful-timeout", "1")
        app = "chat_server.app:create_app()"
        self._command = [sys.executable, "-m", "hypercorn", *flags, app]


def serve(transport: str, environ: Mapping[str, str]) -> ServerProcess:
    """Return a server, not yet started, that serves WebSockets in one of the ways."""
    if transport == "hypercorn":
        return StockHypercorn(environ=environ)
    return ServerProcess(environ={**way(transport), **environ})
