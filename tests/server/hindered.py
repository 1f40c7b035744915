"""The server with obstacles for its workers: `python -m tests.server.hindered serve`.

`GET /block/loop` and `/block/sleep` block the event loop of the worker that they reach, and no
worker starts while the file exists that the environment variable GATE names. ANSWER_SECONDS is how
long a worker waits for the numbers of the others.
"""

import os
import sys
import time
from pathlib import Path

from quart import Quart

from chat_server.app import create_app
from chat_server.cli import main
from chat_server.server import application, totals
from chat_server.settings import Settings


def _create_app(settings: Settings) -> Quart:
    app = create_app(settings)

    @app.get("/block/<how>")
    async def block(how: str) -> str:
        print("blocked:", os.getpid(), file=sys.stderr, flush=True)
        while True:
            if how == "sleep":
                time.sleep(3600)  # noqa: ASYNC251  (that is the point)

    return app


vars(application)["create_app"] = _create_app
totals.ANSWER_SECONDS = float(os.environ.get("ANSWER_SECONDS", totals.ANSWER_SECONDS))

if __name__ == "__main__":
    main()
else:
    # A process that is spawned imports what its parent was started with.
    while (gate := os.environ.get("GATE")) and Path(gate).exists():
        time.sleep(0.01)
