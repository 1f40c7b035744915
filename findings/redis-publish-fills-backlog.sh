#!/usr/bin/env bash
# Redis 7.0.15: messages of PUBLISH to channels without any subscriber push the writes out of the replication backlog.
#
# Expected: what is stored nowhere, and goes to nobody, takes no place in the backlog, as it takes none in the append-only file.
# Observed: each PUBLISH goes to all replicas, and its bytes count in master_repl_offset. A replica that lost its connection for a moment comes
# back by a partial resynchronisation when 10 keys were written meanwhile, and has to copy the whole data set when 40 messages of 1 kB
# were published to nobody, with a `repl-backlog-size` of 16 kB.
# It matters to who sizes the backlog (1 MB by default) by the writes of a Redis that also does pub/sub: count the messages as well, or use a
# Redis of its own, or sharded pub/sub of a cluster, which spreads them.
# Exits with 1 when that changes, and with 77 without Redis 7.0.15.
set -euo pipefail
command -v redis-server >/dev/null || { echo "redis-server is missing"; exit 77; }
redis-server --version | tee /dev/stderr | grep -q 'v=7\.0\.15 ' || { echo "this is not Redis 7.0.15"; exit 77; }
folder=$(mktemp -d)
servers=()
trap '[ ${#servers[@]} = 0 ] || kill "${servers[@]}" || true; wait; rm -rf "$folder"' EXIT
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$folder/master" "$folder/replica"
redis-server --bind 127.0.0.1 --port "$port" --unixsocket "$folder/socket" --save "" --dir "$folder/master" \
    --repl-backlog-size 16kb --repl-diskless-sync-delay 0 >"$folder/master/log" &
servers+=($!)
redis-server --port 0 --unixsocket "$folder/replica/socket" --save "" --dir "$folder/replica" --replicaof 127.0.0.1 "$port" >"$folder/replica/log" &
servers+=($!)
ask() { redis-cli -s "$folder/socket" "$@" 2>/dev/null; }
told() { ask INFO | tr -d '\r' | sed -n "s/^$1://p"; }
connected() { # wait until the replica is in step
    for _ in $(seq 300); do [ "$(ask INFO replication | grep -c 'state=online')" = 1 ] && [ "$(ask WAIT 1 100)" = 1 ] && return; sleep 0.1; done
    echo "the replica did not connect"
    exit 1
}
# One transaction cuts the replica off and does the rest, so that the replica is not back before.
cut_off() {
    printf 'MULTI\nCLIENT KILL TYPE replica\nEVAL "%s" 0\nEXEC\n' "$1" | ask >/dev/null
    connected
    echo "full $(told sync_full), partial $(told sync_partial_ok)"
}
connected
before="full $(told sync_full), partial $(told sync_partial_ok)"
writes=$(cut_off "for i = 1, 10 do redis.call('SET', 'key:' .. i, 'value') end")
offset=$(told master_repl_offset)
messages=$(cut_off "for i = 1, 40 do redis.call('PUBLISH', 'nobody', string.rep('x', 1000)) end")
added=$(($(told master_repl_offset) - offset))
echo "resynchronisations at first: $before; after 10 writes: $writes; after 40 messages to nobody: $messages"
echo "40 messages of 1000 bytes moved master_repl_offset by $added; keys: $(ask DBSIZE)"
[ "$before; $writes; $messages" = "full 1, partial 0; full 1, partial 1; full 2, partial 1" ] && [ "$added" -gt 40000 ]
