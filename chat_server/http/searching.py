"""`/api/search`: find messages in the archive."""

from quart import Blueprint, Response
from quart_schema import document_querystring, document_response

from ..protocol.searching import SEARCH_PATH, SearchOk, SearchQuery
from ..service.search import search as find
from .commands import RequestCommands, respond


def add_search_route(blueprint: Blueprint, commands: RequestCommands) -> None:
    """Add the route to a blueprint."""

    @blueprint.get(SEARCH_PATH)
    @document_querystring(SearchQuery)
    @document_response(SearchOk, 200)
    async def search() -> Response:
        """Find messages by words, the newest first, where the token grants `history`."""
        return respond(await commands.query(SearchQuery, find))
