"""`/docs`: a page that shows /openapi.json, with nothing loaded from elsewhere."""

from quart import Blueprint, Response, send_from_directory
from quart_schema import hide

from .page import WEB

REVALIDATE = 0
"""Seconds a browser may keep a file without asking: a new server must not meet an old script."""


def docs_blueprint() -> Blueprint:
    """Return the routes of the page and its files."""
    blueprint = Blueprint("chat_docs", __name__)

    @blueprint.get("/docs")
    @hide
    async def docs() -> Response:
        return await send_from_directory(WEB, "docs.html", cache_timeout=REVALIDATE)

    @blueprint.get("/docs/<any('docs.js', 'docs.css'):name>")
    @hide
    async def docs_file(name: str) -> Response:
        return await send_from_directory(WEB, name, cache_timeout=REVALIDATE)

    return blueprint
