"""Connections that a registry or a drain is tried with."""

import asyncio
from typing import Any

from chat_server.protocol.close_codes import CloseCode
from chat_server.realtime.registry import Registry


class FakeClient:
    """A connection that goes when it is asked to, or only when it is made to."""

    def __init__(self, registry: Registry, *, stubborn: bool = False) -> None:
        self.id = f"{id(self):x}"
        self.registry = registry
        self.stubborn = stubborn
        self.calls: list[tuple[Any, ...]] = []
        registry.add(self)

    def close(self, code: CloseCode, reason: str, reconnect_in_ms: int) -> None:
        self.calls.append(("close", code, reconnect_in_ms))
        self.back_at = asyncio.get_running_loop().time() + reconnect_in_ms / 1000
        if not self.stubborn:
            asyncio.get_running_loop().call_soon(self.registry.remove, self)

    def abort(self) -> None:
        self.calls.append(("abort",))
        asyncio.get_running_loop().call_soon(self.registry.remove, self)
