"""`/docs`: a page that shows /openapi.json, with nothing loaded from elsewhere."""

from quart import Blueprint, Response
from quart_schema import hide

from .files import read_file, send_file


def docs_blueprint() -> Blueprint:
    """Return the routes of the page and its files."""
    blueprint = Blueprint("chat_docs", __name__)
    page = read_file("docs.html")
    files = {name: read_file(name) for name in ("docs.css", "docs.js", "docs.svg")}

    @blueprint.get("/docs")
    @hide
    async def docs() -> Response:
        return await send_file(page)

    @blueprint.get("/docs/<any('docs.css', 'docs.js', 'docs.svg'):name>")
    @hide
    async def docs_file(name: str) -> Response:
        return await send_file(files[name])

    return blueprint
