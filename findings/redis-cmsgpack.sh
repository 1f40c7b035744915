#!/usr/bin/env bash
# Redis 7.0.15: the library cmsgpack of its scripts changes valid MessagePack without an error when it is unpacked and
# packed again, and cannot read what newer libraries write.
#
# Expected: cmsgpack.pack(cmsgpack.unpack(x)) is x, up to the digits that Lua's numbers have and Lua's single kind of table.
# Observed: 2⁶⁴ - 1 becomes -1, and every integer from 2⁶³ on a negative one. What lies deeper than 16 arrays or maps
# becomes nil. [1, nil, 3] becomes the map {1: 1, 3: 3}, and the empty map an empty array, where cjson makes an object of the
# empty array. Binaries and timestamps, in the format since 2013 and 2017, raise "Bad data format in input".
# The README of lua-cmsgpack tells of the 16, of tables with holes and of empty ones, and calls large integers approximate.
# It matters to who edits a stored message in a script: do so with the bytes alone, or in the client.
# Exits with 1 when that changes, and with 77 without Redis 7.0.15.
set -euo pipefail
command -v redis-server >/dev/null || { echo "redis-server is missing"; exit 77; }
redis-server --version | tee /dev/stderr | grep -q 'v=7\.0\.15 ' || { echo "this is not Redis 7.0.15"; exit 77; }
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" || true; wait; rm -rf "$folder"' EXIT
redis-server --port 0 --unixsocket "$folder/socket" --save "" --dir "$folder" >"$folder/log" &
server=$!
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet msgspec==0.22.0 redis==8.1.0
"$folder/venv/bin/python" - "$folder/socket" <<'PYTHON'
import sys
from datetime import datetime, timezone

import redis
from msgspec import msgpack

AGAIN = "return cmsgpack.pack(cmsgpack.unpack(ARGV[1]))"
server = redis.Redis(unix_socket_path=sys.argv[1])


def nested(depth: int) -> object:
    return "x" if depth == 0 else [nested(depth - 1)]


def again(value: object) -> object:
    """Let a script unpack a value and pack it again."""
    try:
        return msgpack.decode(server.eval(AGAIN, 0, msgpack.encode(value)))
    except redis.ResponseError as error:
        return "refused" if "Bad data format" in str(error) else str(error)


def nil_at(value: object) -> int | None:
    """Tell how many arrays stand around a nil."""
    depth = 0
    while isinstance(value, list):
        [value], depth = value, depth + 1
    return depth if value is None else None


observed = {
    "2 ** 53": again(2**53),
    "2 ** 64 - 1": again(2**64 - 1),
    "2 ** 63 + 2 ** 62": again(2**63 + 2**62),
    "[1, None, 3]": again([1, None, 3]),
    "{}": again({}),
    "bytes": again(b"abc"),
    "a timestamp": again(datetime(2026, 1, 1, tzinfo=timezone.utc)),
    "x in 16 arrays": again(nested(16)) == nested(16),
    "x in 17 arrays": f"nil in {nil_at(again(nested(17)))} arrays",
    "x in 40 arrays": f"nil in {nil_at(again(nested(40)))} arrays",
}
for name, value in observed.items():
    print(f"{name}: {value}")
sys.exit(
    [*observed.values()]
    != [2**53, -1, -(2**62), {1: 1, 3: 3}, [], "refused", "refused", True, "nil in 16 arrays", "nil in 16 arrays"]
)
PYTHON
