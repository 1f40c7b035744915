#!/usr/bin/env bash
# msgspec 0.22.0 copies the pattern of Meta() into its JSON Schema as it is, in Python's dialect.
#
# Expected: a pattern that means the same to a validator of JSON Schema, whose dialect is ECMA-262; or
# at least that `extra_json_schema={"pattern": …}` has the last word, as it has for other keywords.
# Observed: `\Z`, the end of the text in Python, is the letter Z in ECMA-262, so that an editor refuses
# what msgspec accepts. With `$` instead msgspec accepts a line break at the end. The pattern of
# `extra_json_schema` is passed over, while its `description` is not: the schema has to be mended afterwards.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
command -v node >/dev/null || exit 77
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet msgspec==0.22.0
"$folder/bin/python" - <<'PYTHON' | tee "$folder/seen"
from typing import Annotated

import msgspec
from msgspec import Meta

schema = msgspec.json.schema(
    Annotated[
        str,
        Meta(pattern=r"^[0-9]+\Z", extra_json_schema={"pattern": "^[0-9]+$", "description": "digits"}),
    ]
)
print(schema["pattern"], schema["description"])
loose = Annotated[str, Meta(pattern="^[0-9]+$")]
print("with $ msgspec takes", repr(msgspec.convert("12\n", loose)))
PYTHON
node -e 'console.log("ECMA-262 with \\Z:", /^[0-9]+\Z/.test("12"), /^[0-9]+\Z/.test("12Z"))' | tee -a "$folder/seen"
grep -qF '^[0-9]+\Z digits' "$folder/seen" && grep -qF "takes '12\\n'" "$folder/seen" &&
    grep -qF 'false true' "$folder/seen"
