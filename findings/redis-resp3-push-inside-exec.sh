#!/usr/bin/env bash
# Redis 7.0: a RESP3 client that publishes inside MULTI to a channel of its own subscription gets the
# push message between the items of the EXEC array.
#
# Expected (RESP3 specification): a push comes before or after a reply, never in the middle of one.
# Observed: the array announces three items, and the push stands between the first and the second.
# Redis 7.2 mended it (pull request 12326 of redis/redis); Debian 12 has 7.0.15.
# It matters to who writes a parser or shares one connection between commands and subscriptions: a
# parser that counts the push as an item returns wrong results and is one item behind from then on.
# Exits with 1 when that changes.
set -euo pipefail
command -v redis-server >/dev/null || { echo "redis-server is missing"; exit 77; }
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" || true; wait; rm -rf "$folder"' EXIT
redis-server --version
redis-server --port 0 --unixsocket "$folder/socket" --save "" --dir "$folder" >"$folder/log" &
server=$!

python3 - "$folder/socket" <<'PYTHON'
import socket
import sys
import time

client = socket.socket(socket.AF_UNIX)
client.settimeout(10)
for _ in range(100):
    try:
        client.connect(sys.argv[1])
        break
    except OSError:
        time.sleep(0.1)


def ask(commands: bytes, end: bytes) -> bytes:
    client.sendall(commands)
    answer = b""
    while not answer.endswith(end):
        answer += client.recv(4096)
    return answer


ask(b"HELLO 3\r\nSUBSCRIBE news\r\n", b"news\r\n:1\r\n")
answer = ask(b"MULTI\r\nINCR n\r\nPUBLISH news hello\r\nINCR n\r\nEXEC\r\n", b":2\r\n")
array = answer[answer.index(b"*3\r\n") :]
push = b">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n"
print("expected the items side by side: ", b"*3\r\n:1\r\n:1\r\n:2\r\n")
print("observed a push between the items:", array)
sys.exit(array != b"*3\r\n:1\r\n" + push + b":1\r\n:2\r\n")
PYTHON
