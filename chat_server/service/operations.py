"""The function that carries out each command."""

from collections.abc import Mapping
from types import MappingProxyType

from ..protocol.commands import (
    Auth,
    Command,
    History,
    Presence,
    Publish,
    Signal,
    Subscribe,
    Unsubscribe,
)
from .history import history
from .presence import presence
from .publishing import publish, signal
from .service import Operation
from .subscribing import auth, subscribe, unsubscribe

OPERATIONS: Mapping[type[Command], Operation] = MappingProxyType(
    {
        Auth: auth,
        Subscribe: subscribe,
        Unsubscribe: unsubscribe,
        Publish: publish,
        Signal: signal,
        History: history,
        Presence: presence,
    }
)
