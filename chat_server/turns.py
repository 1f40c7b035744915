"""Long work in the event loop, one part in each turn of the loop."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def in_turns(items: Iterable[T], at_once: int) -> AsyncIterator[Sequence[T]]:
    """Yield all items in groups; the loop runs other tasks between the groups.

    Args:
        items: the items of this moment; some may be gone by the time of their group.
        at_once: size of a group; so small that a group takes milliseconds.
    """
    everything = list(items)
    for begin in range(0, len(everything), at_once):
        if begin:
            await asyncio.sleep(0)
        yield everything[begin : begin + at_once]
