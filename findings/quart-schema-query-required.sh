#!/usr/bin/env bash
# quart-schema 0.25.0 describes every field of a query as optional, whatever the model says.
#
# Expected: a field without a default, which the server refuses to do without, has `"required": true`
# in /openapi.json.
# Observed: no parameter of a query has `required`. The library looks for the word inside each
# property, where JSON Schema never has it: the list stands beside the properties. A client that is
# generated from the document may leave the field out, and is answered by 400.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet quart==0.22.0 "quart-schema[msgspec]==0.25.0" msgspec==0.22.0 typing-extensions
"$folder/bin/python" - <<'PYTHON'
import asyncio
import sys
from dataclasses import dataclass

from quart import Quart
from quart_schema import QuartSchema, validate_querystring


@dataclass
class Search:
    word: str
    limit: int = 10


app = Quart("finding")
QuartSchema(app, conversion_preference="msgspec")


@app.get("/search")
@validate_querystring(Search)
async def search(query_args: Search) -> str:
    return query_args.word


async def main() -> bool:
    client = app.test_client()
    document = await (await client.get("/openapi.json")).get_json()
    parameters = {each["name"]: each for each in document["paths"]["/search"]["get"]["parameters"]}
    refused = (await client.get("/search")).status_code
    print("without `word`:", refused, "- as described:", parameters["word"])
    return refused == 400 and not parameters["word"].get("required")


sys.exit(not asyncio.run(main()))
PYTHON
