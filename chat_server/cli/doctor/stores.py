"""Judges the state that a Redis reports."""

import re
from collections.abc import Iterator

from ...broker.redis.inspection import Inspection
from ...settings import Settings
from .findings import Finding, found

CLOCK_SECONDS = 1.0
FULL = 0.9
"""Share of maxmemory from which a store counts as nearly full."""


def judge(inspection: Inspection, settings: Settings) -> Iterator[Finding]:
    """Yield findings about one Redis server."""
    name = inspection.name
    if inspection.error:
        yield Finding(name, "error", f"cannot be reached: {inspection.error}; see redis.url")
        return
    milliseconds = inspection.latency_seconds * 1000
    yield Finding(name, "ok", f"answers within {milliseconds:.1f} ms")
    if inspection.refusal:
        yield Finding(f"{name} writes", "error", inspection.refusal)
    else:
        yield Finding(f"{name} writes", "ok", "publications are stored")
    if inspection.missing:
        lacks = " ".join(inspection.missing)
        yield Finding(f"{name} ACL", "error", f"{lacks} is missing: see docs/stores.md")
    else:
        yield Finding(f"{name} ACL", "ok", "allows what is needed")
    yield _clock(inspection)
    if not inspection.info:
        hidden = "version, memory and persistence cannot be seen"
        yield Finding(f"{name} INFO", "warning", f"{hidden}: +info is missing in the ACL")
        return
    yield _version(inspection)
    yield from _memory(inspection)
    yield from _persistence(inspection)
    yield from _clients(inspection, settings)


def _clock(inspection: Inspection) -> Finding:
    ahead = inspection.clock_ahead_seconds
    side = "ahead of" if ahead > 0 else "behind"
    return found(
        f"{inspection.name} clock",
        abs(ahead) <= CLOCK_SECONDS + inspection.latency_seconds / 2,
        f"this machine's clock is {abs(ahead):.3f} s {side} the store's",
        "let NTP set both",
    )


def _version(inspection: Inspection) -> Finding:
    info = inspection.info
    version = info.get("redis_version", "")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    least = (7, 0) if inspection.clustered else (6, 2)
    shown = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    return found(
        f"{inspection.name} version",
        numbers >= least,
        shown,
        f"Redis {least[0]}.{least[1]} or later, or Valkey, is needed",
        bad="error",
    )


def _memory(inspection: Inspection) -> Iterator[Finding]:
    info, name = inspection.info, inspection.name
    policy = info.get("maxmemory_policy", "noeviction")
    yield found(
        f"{name} eviction",
        policy == "noeviction",
        f"maxmemory-policy is {policy}",
        "set it to noeviction, or messages go and nobody is told",
        bad="error",
    )
    used, most = _number(info, "used_memory"), _number(info, "maxmemory")
    if not most:
        yield Finding(
            f"{name} memory",
            "warning",
            f"uses {_mebibytes(used)} without a bound: set maxmemory, or the kernel may end Redis",
        )
        return
    yield found(
        f"{name} memory",
        used < FULL * most,
        f"uses {_mebibytes(used)} of {_mebibytes(most)}",
        "raise maxmemory, or keep less history; a full store takes no messages",
    )


def _persistence(inspection: Inspection) -> Iterator[Finding]:
    info, name = inspection.info, f"{inspection.name} persistence"
    if info.get("aof_enabled") != "1":
        text = "appendonly is off: a restart of Redis loses what came since the last snapshot"
        yield Finding(name, "warning", f"{text}; CONFIG SET appendonly yes")
    else:
        policy = inspection.append_fsync
        yield Finding(name, "ok", f"appendonly yes{f', appendfsync {policy}' if policy else ''}")
    for field, what in (
        ("rdb_last_bgsave_status", "the last snapshot"),
        ("aof_last_write_status", "the last write of the append-only file"),
        ("aof_last_bgrewrite_status", "the last rewrite of the append-only file"),
    ):
        if info.get(field, "ok") != "ok":
            yield Finding(name, "error", f"{what} failed: look into the log of Redis, and its disk")


def _clients(inspection: Inspection, settings: Settings) -> Iterator[Finding]:
    info = inspection.info
    most, now = _number(info, "maxclients"), _number(info, "connected_clients")
    needed = settings.server.workers * (settings.redis.max_connections + 1)
    if most:
        yield found(
            f"{inspection.name} clients",
            most - now >= needed,
            f"{now} of {most} connections are in use, and this server needs up to {needed}",
            "raise maxclients",
        )


def _number(info: dict[str, str], field: str) -> int:
    text = info.get(field, "")
    return int(text) if text.isdecimal() else 0


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
