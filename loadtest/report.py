"""What a load test has found, for people and for machines."""

from msgspec import Struct


class Latency(Struct, frozen=True):
    """Milliseconds from when a message was due to when a subscriber had read it."""

    p50: float
    p99: float
    max: float


class Report(Struct, frozen=True, kw_only=True):
    """The result of one fan-out.

    Args:
        deliveries: messages that reached a subscriber, each subscriber counted.
        lost: deliveries of acknowledged messages that did not happen.
        skipped: places in the topic's order that a subscriber did not see.
        duplicates: messages that reached a subscriber again, or after a later one.
        server_cpu_us_per_delivery: None if the server's pid or /proc is not known.
        busiest_generator: the share of one core that the busiest subscriber process used; near 1
            the latency is that of the load test itself.
    """

    subscribers: int
    rate: float
    seconds: float
    payload_bytes: int
    connect_seconds: float
    published: int
    acknowledged: int
    errors: dict[str, int]
    deliveries: int
    lost: int
    skipped: int
    duplicates: int
    lost_connections: list[str]
    deliveries_per_second: float
    latency_ms: Latency
    server_cpu_us_per_delivery: float | None
    busiest_generator: float

    @property
    def passed(self) -> bool:
        """Whether every subscriber got every message once and in order."""
        broken = self.lost or self.skipped or self.duplicates or self.lost_connections
        return not broken and self.published == self.acknowledged > 0


def table(report: Report) -> str:
    """Return a report as lines for people."""
    cpu = report.server_cpu_us_per_delivery
    rows = [
        ("subscribers", f"{report.subscribers:,}, connected in {report.connect_seconds:.1f} s"),
        ("published", f"{report.published:,} at {report.rate:g}/s, {report.payload_bytes} bytes"),
        ("acknowledged", f"{report.acknowledged:,}"),
        ("deliveries", f"{report.deliveries:,}"),
        ("deliveries/s", f"{report.deliveries_per_second:,.0f}"),
        ("latency p50", f"{report.latency_ms.p50:.2f} ms"),
        ("latency p99", f"{report.latency_ms.p99:.2f} ms"),
        ("latency max", f"{report.latency_ms.max:.2f} ms"),
        ("server CPU per delivery", "unknown" if cpu is None else f"{cpu:.1f} µs"),
        ("busiest generator", f"{report.busiest_generator:.0%} of a core"),
    ]
    problems = {"lost": report.lost, "skipped": report.skipped, "duplicates": report.duplicates}
    rows += [(name, f"{count:,}") for name, count in (problems | report.errors).items() if count]
    rows += [("connection lost", reason) for reason in sorted(set(report.lost_connections))]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    lines.append(
        "every message reached every subscriber once and in order" if report.passed else "FAILED"
    )
    return "\n".join(lines)
