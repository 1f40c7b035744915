#!/usr/bin/env bash
# redis-py 8.1.0 sends a command again, up to ten times, when its answer is late, whatever the command does.
#
# Expected: an INCR or PUBLISH whose answer does not come in time has an unknown outcome; it raises, and is not sent again.
# The signature says so too: `retry_on_timeout=False`.
# Observed: while Redis' answers are later than `socket_timeout` (by default 5 s) one incr() adds 11 and then raises TimeoutError,
# and one publish() sends 11 messages. The default policy, Retry(…, 10), retries time-outs, and `retry_on_timeout` has no say:
# who passes it gets a DeprecationWarning. Nothing is logged. Issue 1022 of redis/redis-py had the same with one repetition.
# It matters to who counts, appends or publishes: pass `retry=Retry(NoBackoff(), 0)` there, or make the command safe to repeat.
# Exits with 1 when that changes, and with 77 without redis-server.
set -euo pipefail
command -v redis-server >/dev/null || { echo "redis-server is missing"; exit 77; }
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" || true; wait; rm -rf "$folder"' EXIT
redis-server --port 0 --unixsocket "$folder/socket" --save "" --dir "$folder" >"$folder/log" &
server=$!
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet redis==8.1.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import asyncio
import sys
from importlib.metadata import version

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

folder = sys.argv[1]
late = False


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
    while data := await reader.read(65536):
        if not (answers and late and data.startswith(b":")):
            writer.write(data)
    writer.close()


async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Stand between client and Redis, and keep numbers back while they are to be late; a new connection gets its hello."""
    from_redis, to_redis = await asyncio.open_unix_connection(f"{folder}/socket")
    await asyncio.gather(pass_on(reader, to_redis, False), pass_on(from_redis, writer, True))


async def once(direct: Redis, **options: object) -> tuple[str, int, int]:
    """Call incr() and publish() once each, with late answers, and tell what Redis did."""
    global late
    await direct.delete("count")
    listener = direct.pubsub(ignore_subscribe_messages=True)
    await listener.subscribe("channel")
    await listener.get_message(timeout=10)
    errors = set()
    for command in (("INCR", "count"), ("PUBLISH", "channel", "x")):
        client = Redis(unix_socket_path=f"{folder}/between", socket_timeout=0.2, **options)
        await client.ping()
        late = True
        try:
            await client.execute_command(*command)
        except Exception as error:
            errors.add(type(error).__name__)
        late = False
        await client.aclose()
    messages = 0
    while await listener.get_message(timeout=1):
        messages += 1
    await listener.aclose()
    return ", ".join(errors), int(await direct.get("count") or 0), messages


async def main() -> bool:
    direct = Redis(unix_socket_path=f"{folder}/socket")
    for _ in range(100):
        try:
            await direct.ping()
            break
        except OSError:
            await asyncio.sleep(0.1)
    async with await asyncio.start_unix_server(accept, f"{folder}/between"):
        print("redis-py", version("redis"))
        default = await once(direct)
        none = await once(direct, retry=Retry(NoBackoff(), 0))
    for name, (error, count, messages) in {"by default": default, "no retries": none}.items():
        print(f"{name}: {error}; one incr() added {count}, one publish() sent {messages}")
    await direct.aclose()
    return (default, none) == (("TimeoutError", 11, 11), ("TimeoutError", 1, 1))


sys.exit(not asyncio.run(main()))
PYTHON
