#!/usr/bin/env bash
# SQLAlchemy 2.1.9 with aiosqlite 0.22.1: asyncio.timeout() around a query does not end before the query does.
#
# Expected: asyncio.timeout(0.1) raises TimeoutError after 0.1 s, as it does around a query of aiosqlite alone.
# Observed: TimeoutError comes when the query is done, here seconds later. SQLAlchemy closes the cursor while the exception passes, and the
# close waits in the queue of aiosqlite's thread, behind the query. A cancelled task lasts as long.
# `connect_args={"timeout": …}` bounds the wait for a lock only.
# It matters to who bounds requests or a shutdown so: end the query itself, by the progress handler or interrupt() of sqlite3.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "sqlalchemy[asyncio]==2.1.9" aiosqlite==0.22.1
"$folder/venv/bin/python" - "$folder/database" <<'PYTHON'
import asyncio
import sys
import time
from collections.abc import Awaitable
from importlib.metadata import version

import aiosqlite
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) SELECT max(i) FROM n"


async def timed(query: Awaitable[object]) -> tuple[bool, float]:
    """Tell whether a bound of 0.1 s was overstepped, and how long the caller waited."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(0.1):
            await query
    except TimeoutError:
        return True, time.monotonic() - began
    return False, time.monotonic() - began


async def main() -> bool:
    engine = create_async_engine(f"sqlite+aiosqlite:///{sys.argv[1]}")
    async with engine.connect() as connection:
        began = time.monotonic()
        await connection.execute(text(COUNT))
        whole = time.monotonic() - began
        late, waited = await timed(connection.execute(text(COUNT)))
    await engine.dispose()
    async with aiosqlite.connect(sys.argv[1]) as alone:
        late_alone, waited_alone = await timed(alone.execute_fetchall(COUNT))
        await alone.interrupt()
    print("SQLAlchemy", version("sqlalchemy"), "aiosqlite", version("aiosqlite"))
    print(f"without a bound: {whole:.1f} s; with one of 0.1 s: TimeoutError {late}, after {waited:.1f} s")
    print(f"aiosqlite alone: TimeoutError {late_alone}, after {waited_alone:.1f} s")
    return late and late_alone and waited > whole / 4 and waited_alone < waited / 2


sys.exit(not asyncio.run(main()))
PYTHON
