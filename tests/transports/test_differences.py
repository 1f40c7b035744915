"""The table of differences in docs/design/transports.md is the one that the tests go by."""

from pathlib import Path

from tests.e2e.differences import CLOSE_CODES

PAGE = Path(__file__).parents[2] / "docs" / "design" / "transports.md"


def test_the_page_has_the_tested_table() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith("|")
    ]
    assert rows[0] == ["what happens", "direct", "asgi"]
    written = {what: {"direct": direct, "asgi": asgi} for what, direct, asgi in rows[2:]}
    assert written == {
        what: {transport: str(code) if code else "stays open" for transport, code in codes.items()}
        for what, codes in CLOSE_CODES.items()
    }
