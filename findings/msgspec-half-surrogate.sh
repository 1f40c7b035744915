#!/usr/bin/env bash
# msgspec 0.22.0: a string that ends with half a surrogate pair (an escape such as \ud83d) is
# reported as truncated input when nearly nothing follows it, and as malformed when more follows.
#
# Expected: one error that names the surrogate, wherever it stands in the document.
# Observed: {"a":"\ud83d"} is "Input data was truncated", {"a":"\ud83d","b":1} is "malformed".
# It matters to who handles the two differently: the document is complete, and waiting for more of it
# or blaming the network is wrong. Such strings are common: JavaScript makes one when it cuts a text
# within an emoji, and JSON.stringify writes exactly this escape. Python's json accepts both documents.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet msgspec==0.22.0
"$folder/bin/python" - <<'PYTHON'
import json
import sys

import msgspec


def told(document: bytes) -> str:
    try:
        return repr(msgspec.json.decode(document))
    except msgspec.DecodeError as error:
        return str(error)


print("msgspec", msgspec.__version__)
short, longer = rb'{"a":"\ud83d"}', rb'{"a":"\ud83d","b":1}'
for document in (short, longer):
    print(document.decode(), "json:", json.loads(document), "msgspec:", told(document))
sys.exit(not ("truncated" in told(short) and "surrogate" in told(longer)))
PYTHON
