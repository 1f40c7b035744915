"""The capacity model: what a deployment needs, from what things cost on one machine.

Work is counted in events a second and multiplied by its measured cost:

    publications  P = rooms × rate          deliveries  D = connections × rate
    reached       w = how many workers have members of a room, W × (1 - (1 - 1/W)^members)

    CPU of all workers  = D × delivery + P × publish + P × w × receive + connections × idle
                        + reconnects × connect
    CPU of Redis        = P × store + P × w × forward

Every worker reached by a publication reads it from Redis once and writes it to its own members.
Adding workers splits the deliveries but not the receiving, so their number is looked for until it
carries its own load.
"""

import math

from msgspec import Struct

WIRE_OVERHEAD_BYTES = 66
"""Ethernet, IP and TCP headers with timestamps, in each direction's packet."""

MAX_WORKERS = 1_000_000


class Costs(Struct, frozen=True, kw_only=True):
    """What was measured: CPU in µs of one core, memory in bytes."""

    delivery_us: float
    publish_us: float
    receive_us: float
    connect_us: float
    idle_us_per_second: float
    store_us: float
    forward_us: float
    connection_bytes: float
    worker_bytes: float
    frame_bytes: float


class Load(Struct, frozen=True, kw_only=True):
    """What is asked for: `rate` messages a second in each room, `reconnects` in all per second."""

    connections: int
    rooms: int
    rate: float
    reconnects: float = 0.0

    @property
    def members(self) -> float:
        """Connections of a room; each connection is in one."""
        return self.connections / self.rooms

    @property
    def publications(self) -> float:
        """In a second."""
        return self.rooms * self.rate

    @property
    def deliveries(self) -> float:
        """In a second."""
        return self.connections * self.rate


class Host(Struct, frozen=True, kw_only=True):
    """The machines to be used, and how far they may be used.

    Args:
        cores, memory_bytes, network_bits: of one machine.
        max_connections: of one worker, which open files limit.
        utilisation: the share of a core and of the network that may be busy on average.
    """

    cores: int
    memory_bytes: int
    network_bits: float
    max_connections: int
    utilisation: float = 0.6


class Usage(Struct, frozen=True, kw_only=True):
    """What a load makes a number of workers use, in all."""

    workers: int
    worker_cores: float
    redis_cores: float
    memory_bytes: float
    network_bits: float
    redis_network_bits: float


class Plan(Struct, frozen=True, kw_only=True):
    """What a load needs; `machines` by what limits them, the largest of which comes first."""

    usage: Usage
    shards: int
    workers_for: dict[str, int]
    machines_for: dict[str, int]

    @property
    def machines(self) -> int:
        """How many machines the workers need."""
        return max(self.machines_for.values())

    @property
    def limit(self) -> str:
        """What runs out first as the load grows."""
        return max(self.machines_for, key=lambda name: self.machines_for[name])


def reached(members: float, workers: int) -> float:
    """Return how many of the workers have a member of a room, on average."""
    return workers * (1.0 - math.pow(1 - 1 / workers, members))


def predict(costs: Costs, load: Load, workers: int) -> Usage:
    """Return what a load makes `workers` and Redis use."""
    publications, deliveries = load.publications, load.deliveries
    received = publications * reached(load.members, workers)
    worker_us = (
        deliveries * costs.delivery_us
        + publications * costs.publish_us
        + received * costs.receive_us
        + load.connections * costs.idle_us_per_second
        + load.reconnects * costs.connect_us
    )
    # Several workers have a supervisor, which imports what they do.
    processes = workers + (workers > 1)
    redis_us = publications * costs.store_us + received * costs.forward_us
    packet_bits = 8 * (costs.frame_bytes + WIRE_OVERHEAD_BYTES)
    return Usage(
        workers=workers,
        worker_cores=worker_us / 1e6,
        redis_cores=redis_us / 1e6,
        memory_bytes=processes * costs.worker_bytes + load.connections * costs.connection_bytes,
        network_bits=(deliveries + publications) * packet_bits,
        redis_network_bits=(publications + received) * packet_bits,
    )


def plan(costs: Costs, load: Load, host: Host) -> Plan:
    """Return how many workers, machines and shards of Redis a load needs."""
    workers_for = {
        "CPU": _workers_for_cpu(costs, load, host),
        "open files": math.ceil(load.connections / host.max_connections),
    }
    usage = predict(costs, load, max(workers_for.values()))
    machines_for = {
        # One worker a core; Redis has machines of its own.
        **{name: math.ceil(workers / host.cores) for name, workers in workers_for.items()},
        "memory": math.ceil(usage.memory_bytes / (host.memory_bytes * host.utilisation)),
        "network": math.ceil(usage.network_bits / (host.network_bits * host.utilisation)),
    }
    return Plan(
        usage=usage,
        shards=max(1, math.ceil(usage.redis_cores / host.utilisation)),
        workers_for=workers_for,
        machines_for=machines_for,
    )


def _workers_for_cpu(costs: Costs, load: Load, host: Host) -> int:
    workers = 1
    while workers < MAX_WORKERS:
        needed = math.ceil(predict(costs, load, workers).worker_cores / host.utilisation)
        if needed <= workers:
            return workers
        workers = needed
    return MAX_WORKERS
