#!/usr/bin/env bash
# SQLite's FTS5 keeps the words of a deleted row in its file, also with PRAGMA secure_delete = ON.
#
# Expected: with secure_delete on, which overwrites what is deleted with zeros, nothing of a deleted row
# is left in the file once the write-ahead log is checkpointed.
# Observed: of an external-content FTS5 table the word of the deleted row stands in a segment of the index
# until segments are merged; a search does not find it. `'optimize'` takes it away. SQLite 3.42 and later
# have an option of the index, `'secure-delete'`, that takes it away at once.
# It matters to who promises that a deleted message is gone, and searches by FTS5.
# Runs on the SQLite of python3. Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 - "$folder/words.db" <<'PYTHON'
import sqlite3
import sys
from pathlib import Path

path = Path(sys.argv[1])
words = sqlite3.connect(path, isolation_level=None)
words.execute("PRAGMA journal_mode = WAL")
words.execute("PRAGMA secure_delete = ON")
words.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, text TEXT)")
words.execute(
    "CREATE VIRTUAL TABLE found USING fts5(text, content='messages', content_rowid='id')"
)


def insert(text: str) -> None:
    row = words.execute("INSERT INTO messages (text) VALUES (?)", (text,)).lastrowid
    words.execute("INSERT INTO found (rowid, text) VALUES (?, ?)", (row, text))


def delete(text: str) -> None:
    [(row,)] = words.execute("SELECT id FROM messages WHERE text = ?", (text,)).fetchall()
    words.execute("INSERT INTO found (found, rowid, text) VALUES ('delete', ?, ?)", (row, text))
    words.execute("DELETE FROM messages WHERE id = ?", (row,))


def is_in_file(word: bytes) -> bool:
    words.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return word in path.read_bytes()


insert("zanzibarquux")
insert("other")
delete("zanzibarquux")
hits = words.execute("SELECT count(*) FROM found WHERE found MATCH 'zanzibarquux'").fetchone()[0]
kept = is_in_file(b"zanzibarquux")
words.execute("INSERT INTO found (found) VALUES ('optimize')")
after = is_in_file(b"zanzibarquux")
secured = None
if sqlite3.sqlite_version_info >= (3, 42):
    words.execute("INSERT INTO found (found, rank) VALUES ('secure-delete', 1)")
    insert("wombatquux")
    delete("wombatquux")
    secured = not is_in_file(b"wombatquux")
print(
    f"SQLite {sqlite3.sqlite_version}: found {hits} times, in the file {kept}, after optimize"
    f" {after}, with 'secure-delete' gone at once: {secured}"
)
sys.exit(not (hits == 0 and kept and not after and secured in (None, True)))
PYTHON
