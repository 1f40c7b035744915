"""Long work in the event loop, a part in each of its turns."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def in_turns(items: Iterable[T], at_once: int) -> AsyncIterator[Sequence[T]]:
    """Yield all items, so many at once; the loop does something else in between.

    Args:
        items: as they are now; some may be gone when they are yielded.
        at_once: so few that they take milliseconds.
    """
    everything = list(items)
    for begin in range(0, len(everything), at_once):
        if begin:
            await asyncio.sleep(0)
        yield everything[begin : begin + at_once]
