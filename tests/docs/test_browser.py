"""docs/browser.md says what the client does: its table of errors is compared with the code."""

import re

from chat_server.protocol.errors import ERRORS

from .markdown import ROOT, code, section, tables


def test_the_codes_of_the_client_are_documented() -> None:
    document = (ROOT / "docs/browser.md").read_text("utf-8")
    [table] = [rows for rows in tables(section(document, "Errors")) if "code" in rows[0]]
    documented = {name for row in table for name in code(row["code"])}
    sources = [path.read_text("utf-8") for path in (ROOT / "chat_server/web").glob("client*.js")]
    raised = {
        name
        for source in sources
        for name in re.findall(r"(?:ChatError|refuse)\(\s*\"(\w+)\"", source)
    }
    raised |= {"cannot_connect", "closed"}  # of which the client takes one or another
    assert documented == raised - {error.code for error in ERRORS}
