"""Routes that are answered on an address of their own alone."""

from quart import Blueprint, request
from werkzeug.exceptions import NotFound

from ..settings import OperatorSettings


def register(blueprint: Blueprint, settings: OperatorSettings) -> None:
    """Let a blueprint's routes be there only on `operators.bind`, if that is set.

    Ports tell the addresses apart: the settings must not have the same port twice.
    """
    if not settings.bind:
        return

    async def check_address() -> None:
        server = request.scope.get("server")
        if server is None or server[1] != settings.port:
            raise NotFound

    blueprint.before_request(check_address)
