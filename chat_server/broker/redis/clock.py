"""How long a round trip to Redis takes, and how far the two clocks are apart."""

import time

from ...protocol.errors import Unavailable
from .pipeline import Pipeline, pack
from .refusals import StoreRefuses


async def ask_time(reader: Pipeline) -> tuple[float | None, float | None]:
    """Ask Redis for its time.

    Returns:
        The seconds of the round trip, and by how many this machine's clock is ahead; None for what
        is not known because Redis did not answer, or refused.
    """
    began, sent_at = time.perf_counter(), time.time()
    try:
        moment = await reader.send(pack("TIME"), _seconds)
    except StoreRefuses:
        return time.perf_counter() - began, None  # An answer, too.
    except Unavailable:
        return None, None
    latency = time.perf_counter() - began
    # Redis looked at its clock about half way.
    return latency, sent_at + latency / 2 - moment


def _seconds(reply: list[bytes]) -> float:
    """Return the answer to TIME in seconds since 1970."""
    seconds, microseconds = reply
    return int(seconds) + int(microseconds) / 1e6
