"""Restricts routes to a listening address of their own."""

from quart import Blueprint, request
from werkzeug.exceptions import NotFound

from ..settings import OperatorSettings


def register(blueprint: Blueprint, settings: OperatorSettings) -> None:
    """Restrict a blueprint's routes to the address `operators.bind`, if set.

    Only the port tells the addresses apart, so the settings must not have the same port twice.
    """
    if not settings.bind:
        return

    async def check_address() -> None:
        server = request.scope.get("server")
        if server is None or server[1] != settings.port:
            raise NotFound

    blueprint.before_request(check_address)
