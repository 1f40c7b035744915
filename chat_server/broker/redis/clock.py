"""Measures the round trip to Redis, and the difference between the two clocks."""

import time

from ...protocol.errors import Unavailable
from .pipeline import Pipeline, pack
from .refusals import StoreRefuses


async def ask_time(reader: Pipeline) -> tuple[float | None, float | None]:
    """Ask Redis for its time.

    Returns:
        The seconds of the round trip, and the seconds by which this machine's clock is ahead. A
        value is None if Redis did not answer or refused.
    """
    began, sent_at = time.perf_counter(), time.time()
    try:
        moment = await reader.send(pack("TIME"), _seconds)
    except StoreRefuses:
        return time.perf_counter() - began, None  # a refusal is an answer, too
    except Unavailable:
        return None, None
    latency = time.perf_counter() - began
    # Redis read its clock about half way.
    return latency, sent_at + latency / 2 - moment


def _seconds(reply: list[bytes]) -> float:
    """Return the answer to TIME in seconds since 1970."""
    seconds, microseconds = reply
    return int(seconds) + int(microseconds) / 1e6
