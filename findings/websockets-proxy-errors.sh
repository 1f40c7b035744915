#!/usr/bin/env bash
# websockets 17.4: connect() raises errors that its docstring does not name when the environment
# names a proxy that cannot be used.
#
# Documented: InvalidURI, InvalidProxy, OSError, InvalidHandshake, TimeoutError.
# Observed: ImportError for a SOCKS proxy without python-socks, ValueError for a port out of range.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet websockets==17.4

told() {
  env https_proxy="$1" "$folder/bin/python" - <<'PYTHON'
import asyncio
from websockets.asyncio.client import connect


async def main() -> None:
    try:
        await connect("wss://example.invalid")
    except Exception as error:
        print(type(error).__name__)


asyncio.run(main())
PYTHON
}

status=0
check() {
  found=$(told "$1")
  echo "https_proxy=$1: expected InvalidProxy, observed $found"
  [ "$found" = "$2" ] || status=1
}
check socks5://127.0.0.1:1 ImportError
check http://127.0.0.1:99999 ValueError
exit $status
