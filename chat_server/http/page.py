"""The chat page at `/`, served as the files it is made of."""

from quart import Blueprint, Response
from quart_schema import hide
from werkzeug.exceptions import NotFound

from .files import WEB, read_file, send_file


def page_blueprint() -> Blueprint:
    """Return the routes of the page and its files."""
    blueprint = Blueprint("chat_page", __name__)
    files = {path.name: read_file(path.name) for path in WEB.iterdir()}

    @blueprint.get("/")
    @hide
    async def index() -> Response:
        return await send_file(files["index.html"])

    @blueprint.get("/static/<name>")
    @hide
    async def static(name: str) -> Response:
        if name not in files:
            raise NotFound
        return await send_file(files[name])

    return blueprint
