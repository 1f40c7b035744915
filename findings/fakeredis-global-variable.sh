#!/usr/bin/env bash
# fakeredis 2.40.0: after one script that sets a global variable all later scripts on that server fail.
#
# Expected: the script fails, and the next one runs, as with Redis.
# Observed: the variable stays, so each later script of each client raises "Script attempted to set global variables: n", which it does
# not. SCRIPT FLUSH and FLUSHALL do not help; a new FakeServer does.
# It matters to who shares a FakeServer between tests: one mistake in a script, a forgotten `local`, is reported for the others.
# Exits with 1 when that changes, and with 77 without redis-server.
set -euo pipefail
command -v redis-server >/dev/null || { echo "redis-server is missing"; exit 77; }
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" || true; wait; rm -rf "$folder"' EXIT
redis-server --port 0 --unixsocket "$folder/socket" --save "" --dir "$folder" >"$folder/log" &
server=$!
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "fakeredis[lua]==2.40.0" redis==8.1.0
"$folder/venv/bin/python" - "$folder/socket" <<'PYTHON'
import sys
from importlib.metadata import version

import fakeredis
import redis


def ran(client: redis.Redis, script: str) -> bool:
    """Tell whether a script ran without an error."""
    try:
        client.eval(script, 0)
    except redis.ResponseError as error:
        print(f"  {script!r}: {error}")
        return False
    return True


def outcomes(first: redis.Redis, second: redis.Redis) -> list[bool]:
    """Run good scripts before and after a bad one, by two clients."""
    seen = [ran(first, "return 1"), ran(first, "n = 1 return n"), ran(first, "return 2"), ran(second, "return 3")]
    first.script_flush()
    first.flushall()
    return [*seen, ran(second, "return 4")]


print("fakeredis", version("fakeredis"))
shared = fakeredis.FakeServer()
fake = outcomes(fakeredis.FakeRedis(server=shared), fakeredis.FakeRedis(server=shared))
fresh = ran(fakeredis.FakeRedis(server=fakeredis.FakeServer()), "return 5")
print("Redis")
real = outcomes(redis.Redis(unix_socket_path=sys.argv[1]), redis.Redis(unix_socket_path=sys.argv[1]))
print(f"scripts that ran (good, bad, good, good, good): fakeredis {fake}, Redis {real}; on a new FakeServer {fresh}")
sys.exit((fake, real, fresh) != ([True, False, False, False, False], [True, False, True, True, True], True))
PYTHON
