#!/usr/bin/env bash
# Redis streams: what XDEL has deleted is still in DUMP, in a replica's copy and in the RDB file.
#
# Expected: an entry that no command returns any more is gone, as the member of a sorted set is after ZREM.
# Observed: XRANGE and XLEN do not know the entry. DUMP of the key and the file that SAVE writes have its text,
# until every entry of the same node (100 by default, `stream-node-max-entries`) is deleted or trimmed. The reference of
# XDEL says that memory is reclaimed late; it does not say that the content goes into snapshots and backups.
# It matters to who deletes a message because its author, or a law, asks for it. The bytes also survive a
# restart from that file, and RESTORE elsewhere.
# Seen with Redis 7.0.15. Exits with 1 when that changes.
set -euo pipefail
command -v redis-server >/dev/null || { echo "redis-server is missing"; exit 77; }
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" || true; wait; rm -rf "$folder"' EXIT
redis-server --version
redis-server --port 0 --unixsocket "$folder/socket" --save "" --dir "$folder" --rdbcompression no >"$folder/log" &
server=$!
ask() { redis-cli -s "$folder/socket" "$@"; }
for _ in $(seq 100); do ask PING >/dev/null 2>&1 && break; sleep 0.1; done

ask XADD stream 1-0 text "to be deleted" >/dev/null
ask XADD stream 2-0 text "to be kept" >/dev/null
ask XDEL stream 1-0 >/dev/null
ask ZADD set 1 "to be removed" 2 "to stay" >/dev/null
ask ZREM set "to be removed" >/dev/null
ask SAVE >/dev/null

holds() { if grep -aq "$1"; then echo yes; else echo no; fi; }
listed=$(ask XRANGE stream - + | holds "to be deleted")
dumped=$(ask --no-raw DUMP stream | holds "to be deleted")
saved=$(holds "to be deleted" <"$folder/dump.rdb")
removed=$(holds "to be removed" <"$folder/dump.rdb")
echo "deleted entry of a stream: listed by XRANGE $listed, in DUMP $dumped, in the RDB file $saved"
echo "removed member of a sorted set: in the RDB file $removed"
[ "$listed $dumped $saved $removed" = "no yes yes no" ]
