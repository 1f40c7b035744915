"""The users that docs/stores.md gives a server."""

from ..docs.markdown import ROOT, blocks, section

PAGE = ROOT / "docs" / "stores.md"
PREFIX = "ACL SETUSER chat on >PASSWORD "


def rules(kind: str) -> list[str]:
    """Return what the page allows the user, for one `redis`, behind `sentinel`, for a `cluster`."""
    found = [
        line.removeprefix(PREFIX).split()
        for block in blocks(section(PAGE.read_text("utf-8"), "The smallest ACL"))
        for line in block.text.splitlines()
        if line.startswith(PREFIX)
    ]
    return dict(zip(("redis", "sentinel", "cluster"), found, strict=True))[kind]
