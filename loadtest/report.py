"""The result of a load test, for people and for machines."""

from collections.abc import Iterator

from msgspec import Struct

from chat_server.settings import GatewaySettings

from .accounting import Machine
from .histogram import Histogram
from .pauses import Pauses

HEARTBEAT_SECONDS = GatewaySettings().heartbeat_seconds


class Latency(Struct, frozen=True):
    """Milliseconds from the due time to the completion."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float

    @classmethod
    def of(cls, histogram: Histogram) -> "Latency | None":
        """Return the percentiles of a histogram of µs; None for an empty histogram."""
        if not any(histogram.counts):
            return None
        shares = (0.5, 0.9, 0.99, 0.999, 1.0)
        return cls(*(histogram.quantile(share) / 1000 for share in shares))


class Report(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of one scenario; None means not part of the scenario, or not measurable.

    Args:
        parameters: the scenario's parameters.
        lost: missing deliveries of acknowledged messages.
        skipped: seqs of a topic that a subscriber did not see.
        duplicates: messages that reached a subscriber again, or after a later one.
        stalled, stalled_cut: stalled readers, and stalled readers that the server disconnected.
        connecting, delivery, acknowledgement: latencies.
        cpu_us_per_…: CPU time of all the server's processes; the times per delivery and per
            publication are the same time in other units.
        idle_cpu_us_per_second: the same, per idle connection and second.
        redis_cpu_us_per_…: CPU time of the Redis started for the server.
        start_cpu_seconds: CPU time of a restarted server until its readiness.
        memory_bytes_per_connection: growth of memory by connecting, divided by the number of
            connections.
        talk_memory_bytes: largest growth of the server's memory during sending.
        server_cores: CPU seconds per second during sending.
        bytes_per_delivery: bytes of received frames, headers included.
        pauses: pauses of the server's garbage collector, by generation, until the end of all
            connections.
        busiest_generator: share of one core used by the busiest process of the load test; near 1
            the load test itself determines the latency.
        disturbance: cores occupied by other work, or stolen by the hypervisor.
        counts: the histograms of the latencies, by name, for plots.
    """

    scenario: str
    target: str
    parameters: dict[str, float]
    machine: Machine | None = None
    connections: int
    connect_seconds: float
    connecting: Latency | None = None
    published: int = 0
    acknowledged: int = 0
    errors: dict[str, int] = {}
    deliveries: int = 0
    lost: int = 0
    skipped: int = 0
    duplicates: int = 0
    lost_connections: dict[str, int] = {}
    stalled: int = 0
    stalled_cut: int = 0
    deliveries_per_second: float = 0.0
    publishes_per_second: float = 0.0
    delivery: Latency | None = None
    acknowledgement: Latency | None = None
    cpu_us_per_connect: float | None = None
    cpu_us_per_delivery: float | None = None
    cpu_us_per_publish: float | None = None
    idle_cpu_us_per_second: float | None = None
    redis_cpu_us_per_connect: float | None = None
    redis_cpu_us_per_publish: float | None = None
    start_cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_bytes_per_connection: float | None = None
    talk_memory_bytes: int | None = None
    server_cores: float | None = None
    bytes_per_delivery: float | None = None
    pauses: dict[str, Pauses] = {}
    busiest_generator: float = 0.0
    disturbance: float = 0.0
    counts: dict[str, list[int]] = {}

    @property
    def passed(self) -> bool:
        """True if every message was accepted and reached every subscriber once and in order."""
        broken = self.lost or self.skipped or self.duplicates or self.lost_connections
        return not broken and self.published == self.acknowledged


def table(report: Report) -> str:
    """Return a report as lines for people."""
    rows = [*_connections(report), *_messages(report), *_costs(report), *_problems(report)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{report.scenario}, {report.target}", *(f"{n:<{width}}  {v}" for n, v in rows)]
    if not report.passed:
        lines.append("FAILED")
    elif report.published:
        lines.append("every message reached every subscriber once and in order")
    return "\n".join(lines)


Row = tuple[str, str]


def _connections(report: Report) -> list[Row]:
    per_second = report.connections / report.connect_seconds if report.connect_seconds else 0.0
    took = f"{report.connections:,} in {report.connect_seconds:.1f} s ({per_second:,.0f}/s)"
    rows = [("connections", took), *_latency("connecting", report.connecting)]
    if report.stalled:
        rows.append(("stalled", f"{report.stalled:,}, {report.stalled_cut:,} of them cut off"))
    return rows


def _messages(report: Report) -> list[Row]:
    rows = []
    if report.published:
        sent = f"{report.published:,} ({report.publishes_per_second:,.0f}/s)"
        rows.append(("published", sent))
        rows += _latency("acknowledgement", report.acknowledgement)
    if report.deliveries:
        came = f"{report.deliveries:,} ({report.deliveries_per_second:,.0f}/s)"
        rows += [("deliveries", came), *_latency("delivery", report.delivery)]
    return rows


def _cpu(report: Report) -> Iterator[Row]:
    if report.memory_bytes is None:  # The server's process is unknown.
        return
    held = report.parameters.get("hold_seconds", 0.0)
    each = {
        "CPU per connect": (report.cpu_us_per_connect, report.connections),
        "CPU per delivery": (report.cpu_us_per_delivery, report.deliveries),
        "CPU per publish": (report.cpu_us_per_publish, report.acknowledged),
        "CPU per idle second": (report.idle_cpu_us_per_second, held),
    }
    for name, (us, number) in each.items():
        if number:
            yield name, "too short a run to tell" if us is None else f"{us:,.1f} µs"
    if 0 < held < HEARTBEAT_SECONDS:
        yield "heartbeats", f"none: they come every {HEARTBEAT_SECONDS:g} s"
    if report.redis_cpu_us_per_publish is not None:
        yield "Redis CPU per publish", f"{report.redis_cpu_us_per_publish:,.1f} µs"


def _costs(report: Report) -> list[Row]:
    rows = list(_cpu(report))
    if report.server_cores is not None and report.published:
        rows.append(("server CPU", f"{report.server_cores:.2f} cores while sending"))
    if report.memory_bytes_per_connection is not None and report.memory_bytes is not None:
        each, total = report.memory_bytes_per_connection / 1024, report.memory_bytes / 2**20
        rows.append(("memory", f"{total:,.0f} MiB, {each:.1f} KiB per connection"))
    if report.talk_memory_bytes is not None and report.published:
        grown = f"{report.talk_memory_bytes / 2**20:,.1f} MiB more at most"
        rows.append(("memory while sending", grown))
    for generation, found in report.pauses.items():
        text = f"{found.count:,}, {found.total_ms:,.1f} ms, longest {found.longest_ms:.1f} ms"
        text += f", of CPU time {found.longest_cpu_ms:.1f} ms"
        rows.append((f"garbage, generation {generation}", text))
    if report.published:
        rows.append(("busiest generator", f"{report.busiest_generator:.0%} of a core"))
    rows.append(("other work", f"{report.disturbance:.2f} cores, stolen time included"))
    return rows


def _problems(report: Report) -> list[Row]:
    counts = {"lost": report.lost, "skipped": report.skipped, "duplicates": report.duplicates}
    lost = {f"connection lost: {why}": number for why, number in report.lost_connections.items()}
    return [(what, f"{n:,}") for what, n in (counts | report.errors | lost).items() if n]


def _latency(name: str, latency: Latency | None) -> list[Row]:
    if latency is None:
        return []
    shown = zip(
        ("p50", "p90", "p99", "p99.9", "max"),
        (latency.p50, latency.p90, latency.p99, latency.p999, latency.max),
        strict=True,
    )
    return [(name, ", ".join(f"{share} {ms:.2f}" for share, ms in shown) + " ms")]
