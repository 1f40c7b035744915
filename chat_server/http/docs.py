"""`/docs`: a page that shows /openapi.json, with nothing loaded from elsewhere."""

from quart import Blueprint, Response, send_from_directory
from quart_schema import hide

from .page import WEB


def docs_blueprint() -> Blueprint:
    """Return the routes of the page and its files."""
    blueprint = Blueprint("chat_docs", __name__)

    @blueprint.get("/docs")
    @hide
    async def docs() -> Response:
        return await send_from_directory(WEB, "docs.html")

    @blueprint.get("/docs/<any('docs.js', 'docs.css'):name>")
    @hide
    async def docs_file(name: str) -> Response:
        return await send_from_directory(WEB, name)

    return blueprint
