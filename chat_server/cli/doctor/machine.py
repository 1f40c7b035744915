"""Judges the machine: descriptors, and limits of the kernel."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ...server import descriptors
from ...server.acceptor import BACKLOG
from ...server.certificates import certificate_end
from ...settings import Settings
from .findings import Finding, found

CERTIFICATE_DAYS = 14


def judge(settings: Settings, root: Path = Path("/proc/sys")) -> Iterator[Finding]:
    """Yield findings about this machine.

    Args:
        settings: have the maximum number of connections.
        root: the folder of the kernel's settings.
    """
    if sys.platform == "win32":
        return
    needed, hard = descriptors.needed(settings), descriptors.hard_limit()
    yield found(
        "file descriptors",
        hard >= needed,
        f"a process may have {hard if hard < 2**31 else 'any number'}, and a worker needs {needed}",
        "raise `ulimit -Hn` (LimitNOFILE= in systemd), or connections are refused",
    )
    workers = settings.server.workers
    connections = workers * (settings.limits.max_connections + settings.http.max_connections)
    yield from _kernel(root, settings, workers * needed, connections)
    yield from _certificate(settings)


def _kernel(root: Path, settings: Settings, files: int, connections: int) -> Iterator[Finding]:
    for name, least, why in (
        ("fs.file-max", files, "all workers together need so many files"),
        ("net.core.somaxconn", BACKLOG, "connections that come at once are dropped"),
        ("net.ipv4.tcp_max_syn_backlog", 1024, "connections that come at once are dropped"),
        ("net.netfilter.nf_conntrack_max", connections, "the firewall drops further connections"),
    ):
        if value := _read(root, name):
            text = f"{value[0]}, at least {least} is needed"
            yield found(name, value[0] >= least, text, f"raise it by sysctl; else {why}")
    ports = _read(root, "net.ipv4.ip_local_port_range")
    if settings.server.trusted_proxy_hops and len(ports) == 2:
        room = ports[1] - ports[0] + 1
        yield found(
            "net.ipv4.ip_local_port_range",
            room >= connections,
            f"{room} ports for {connections} connections of a proxy on this machine",
            "widen it, let the proxy connect from several addresses, or use several servers",
        )
    if "127.0.0.1" in settings.redis.url or "localhost" in settings.redis.url:
        overcommit = _read(root, "vm.overcommit_memory")
        if overcommit:
            yield found(
                "vm.overcommit_memory",
                overcommit[0] == 1,
                str(overcommit[0]),
                "Redis on this machine wants 1, or its snapshots may fail when memory is short",
            )


def _certificate(settings: Settings) -> Iterator[Finding]:
    end = certificate_end(settings)
    if end is not None:
        days = (end - time.time()) / 86_400
        yield found(
            "certificate",
            days > CERTIFICATE_DAYS,
            f"{'ends' if days > 0 else 'ended'} on {datetime.fromtimestamp(end, UTC):%Y-%m-%d}",
            "renew server.tls_certificate_file, and send SIGHUP",
            bad="warning" if days > 0 else "error",
        )


def _read(root: Path, name: str) -> list[int]:
    """Return the numbers of a setting of the kernel; none if this kernel has no such setting."""
    try:
        return [int(part) for part in (root / name.replace(".", "/")).read_text().split()]
    except (OSError, ValueError):
        return []
