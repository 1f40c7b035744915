"""The operation of each command."""

from collections.abc import Mapping
from types import MappingProxyType

from ..protocol.commands import (
    Append,
    Auth,
    Call,
    Command,
    Delete,
    Edit,
    History,
    Presence,
    Publish,
    React,
    Read,
    Signal,
    Subscribe,
    Unread,
    Unsubscribe,
)
from .calling import call
from .changing import append, delete, edit, react
from .history import history
from .presence import presence
from .publishing import publish, signal
from .reading import read, unread
from .service import Operation
from .subscribing import auth, subscribe, unsubscribe

OPERATIONS: Mapping[type[Command], Operation] = MappingProxyType(
    {
        Auth: auth,
        Subscribe: subscribe,
        Unsubscribe: unsubscribe,
        Publish: publish,
        Signal: signal,
        Edit: edit,
        Append: append,
        Delete: delete,
        React: react,
        Read: read,
        Unread: unread,
        Call: call,
        History: history,
        Presence: presence,
    }
)
