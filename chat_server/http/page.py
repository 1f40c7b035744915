"""The chat page at `/`, served as the files it is made of."""

from pathlib import Path

from quart import Blueprint, Response, send_from_directory
from quart_schema import hide

WEB = Path(__file__).parent.parent / "web"


def page_blueprint() -> Blueprint:
    """Return the routes of the page and its files."""
    blueprint = Blueprint("chat_page", __name__)

    @blueprint.get("/")
    @hide
    async def index() -> Response:
        return await send_from_directory(WEB, "index.html")

    @blueprint.get("/static/<name>")
    @hide
    async def static(name: str) -> Response:
        return await send_from_directory(WEB, name)

    return blueprint
