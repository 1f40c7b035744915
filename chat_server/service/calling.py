"""`call`: what clients ask of the application's own functions."""

import msgspec

from ..hooks.subjects import Call
from ..protocol import commands
from ..protocol.errors import NotFound
from ..protocol.messages import CallOk
from .actor import Actor
from .hooked import session_of, user_of
from .service import Service


async def call(service: Service, actor: Actor, command: commands.Call) -> CallOk:
    """Let the application answer.

    Raises:
        NotFound: it has no such method.
        Unavailable: it did not answer in time, or has too much to do.
        Internal: it has failed.
        ChatError: it refuses.
    """
    if service.gate is None:
        raise NotFound(f"method: there is no method {command.method!r}")
    data = msgspec.json.decode(command.data)
    asked = Call(command.method, data, user_of(actor), session_of(actor))
    return CallOk(data=msgspec.Raw(await service.gate.call(asked)))
