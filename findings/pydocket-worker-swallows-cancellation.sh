#!/usr/bin/env bash
# pydocket 0.27.0: a worker whose task is cancelled returns as if it had come to its end.
#
# Expected: the task of Worker.run_forever() is cancelled when it is asked to be, as asyncio's rules
# for coroutines have it (a CancelledError that is caught is raised again).
# Observed: run_forever() catches it and returns None. task.cancelled() is False, so a loop that
# starts a worker again whenever one has ended starts another in the middle of the shutdown, and a
# TaskGroup that cancels its tasks does not learn that this one obeyed.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet "pydocket==0.27.0"
"$folder/bin/python" - <<'PYTHON'
import asyncio
import sys
from importlib.metadata import version

from docket import Docket, Worker


async def main() -> bool:
    async with Docket(name="finding", url="memory://") as docket:
        async with Worker(docket) as worker:
            task = asyncio.create_task(worker.run_forever())
            await asyncio.sleep(1)  # it polls by now
            task.cancel()
            await asyncio.wait([task], timeout=30)
            print(
                f"pydocket {version('pydocket')}: done {task.done()}, cancelled {task.cancelled()}"
            )
            return task.done() and not task.cancelled() and task.exception() is None


sys.exit(not asyncio.run(main()))
PYTHON
