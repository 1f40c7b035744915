#!/usr/bin/env bash
# Redis 7.0.15: cjson.encode(), `..` and tostring() write a number with 14 digits in a script, where redis.call() and cmsgpack
# write all of them. fakeredis 2.40.0 writes all of them in cjson.encode() too, so tests with it pass.
#
# Expected: a whole number below 2⁵³ is exact, since Lua's numbers hold it exactly.
# Observed: 1700000000123456, a time in microseconds, is 1.7000000001235e+15 after cjson.decode() and cjson.encode(), and
# as part of a key, so that the keys of 50 times are one. A third is 0.33333333333333.
# cjson.encode_number_precision(), which the reference of Redis does not name, refuses more than 14, and what it sets holds for the scripts of
# all clients until SCRIPT FLUSH or a restart.
# It matters to who edits JSON in a script, or makes keys there: keep such numbers as strings, or write string.format("%.0f", n).
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
"$folder/venv/bin/pip" install --quiet "fakeredis[lua]==2.40.0" redis==8.1.0
"$folder/venv/bin/python" - "$folder/socket" <<'PYTHON'
import sys

import fakeredis
import redis

SCRIPTS = {
    "cjson": "return cjson.encode(cjson.decode('[1700000000123456]'))",
    "..": "return 'key:' .. 1700000000123456",
    "redis.call": "redis.call('SET', KEYS[1], 1700000000123456) return redis.call('GET', KEYS[1])",
    "string.format": "return string.format('%.0f', 1700000000123456)",
    "keys of 50 times": """
        for time = 1700000000123456, 1700000000123505 do redis.call('SADD', KEYS[2], 'key:' .. time) end
        return redis.call('SCARD', KEYS[2])""",
}
THIRD = "return cjson.encode(1 / 3)"
real = redis.Redis(unix_socket_path=sys.argv[1], decode_responses=True)
other = redis.Redis(unix_socket_path=sys.argv[1], decode_responses=True)
fake = fakeredis.FakeRedis(decode_responses=True)

said = [{name: each.eval(script, 2, "a", "b") for name, script in SCRIPTS.items()} for each in (real, fake)]
for name in SCRIPTS:
    print(f"{name}: Redis {said[0][name]}, fakeredis {said[1][name]}")
lossy = {
    "cjson": "[1.7000000001235e+15]",
    "..": "key:1.7000000001235e+15",
    "redis.call": "1700000000123456",
    "string.format": "1700000000123456",
    "keys of 50 times": 1,
}
try:
    real.eval("return cjson.encode_number_precision(15)", 0)
    refused = False
except redis.ResponseError as error:
    refused = "between 1 and 14" in str(error)
thirds = [other.eval(THIRD, 0)]
real.eval("return cjson.encode_number_precision(3)", 0)
thirds.append(other.eval(THIRD, 0))
real.script_flush()
thirds.append(other.eval(THIRD, 0))
print(f"precision 15 is refused: {refused}; a third for another client before, after precision 3, after SCRIPT FLUSH: {thirds}")
as_described = said == [lossy, {**lossy, "cjson": "[1700000000123456]"}] and refused
sys.exit(not as_described or thirds != ["0.33333333333333", "0.333", "0.33333333333333"])
PYTHON
