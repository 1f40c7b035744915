"""`call`: runs methods of the application for clients."""

import msgspec

from ..hooks.subjects import Call
from ..protocol import commands
from ..protocol.errors import NotFound
from ..protocol.messages import CallOk
from .actor import Actor
from .hooked import session_of, user_of
from .service import Service


async def call(service: Service, actor: Actor, command: commands.Call) -> CallOk:
    """Call a method of the application.

    Raises:
        NotFound: the application has no such method.
        Unavailable: the application did not answer in time, or has too many calls.
        Internal: the method has failed.
        ChatError: the method refuses.
    """
    if service.gate is None:
        raise NotFound(f"method: there is no method {command.method!r}")
    data = msgspec.json.decode(command.data)
    asked = Call(command.method, data, user_of(actor), session_of(actor))
    return CallOk(data=msgspec.Raw(await service.gate.call(asked)))
