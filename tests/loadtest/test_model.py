"""The capacity model on numbers one can follow by hand."""

import pytest

from loadtest.model import WIRE_OVERHEAD_BYTES, Costs, Host, Load, plan, predict, reached

COSTS = Costs(
    delivery_us=10.0,
    publish_us=100.0,
    receive_us=50.0,
    connect_us=1000.0,
    idle_us_per_second=1.0,
    store_us=20.0,
    forward_us=5.0,
    connection_bytes=8 * 1024,
    worker_bytes=64 * 2**20,
    frame_bytes=200.0,
)
HOST = Host(
    cores=10, memory_bytes=64 * 2**30, network_bits=10e9, max_connections=20_000, utilisation=0.5
)


def test_one_worker_receives_every_publication_once() -> None:
    load = Load(connections=1000, rooms=10, rate=2.0, reconnects=3.0)
    usage = predict(COSTS, load, 1)
    # 2,000 deliveries, 20 publications, 20 received, 1,000 idle, 3 connects.
    assert usage.worker_cores == pytest.approx((20_000 + 2_000 + 1_000 + 1_000 + 3_000) / 1e6)
    assert usage.redis_cores == pytest.approx((20 * 20 + 20 * 5) / 1e6)
    assert usage.memory_bytes == 64 * 2**20 + 1000 * 8 * 1024
    assert usage.network_bits == pytest.approx(2020 * 8 * (200 + WIRE_OVERHEAD_BYTES))


@pytest.mark.parametrize(
    ("members", "workers", "expected"),
    [(1, 7, 1.0), (2, 1, 1.0), (2, 2, 1.5), (10_000, 4, 4.0), (3, 1_000_000, 3.0)],
)
def test_workers_that_a_room_reaches(members: float, workers: int, expected: float) -> None:
    assert reached(members, workers) == pytest.approx(expected, rel=1e-5)


def test_quiet_connections_are_limited_by_open_files() -> None:
    found = plan(COSTS, Load(connections=1_000_000, rooms=100_000, rate=0.001), HOST)
    assert found.workers_for["open files"] == 50
    assert found.usage.workers == 50
    assert found.limit == "open files"
    assert (found.machines, found.shards) == (5, 1)


def test_busy_rooms_are_limited_by_cpu() -> None:
    load = Load(connections=100_000, rooms=100, rate=10.0)
    found = plan(COSTS, load, HOST)
    assert found.limit == "CPU"
    # A million deliveries keep 10 cores busy, hence at least 20 workers at half of their time.
    assert found.workers_for["CPU"] > 20
    workers = found.usage.workers
    assert found.usage.worker_cores <= workers * HOST.utilisation
    assert predict(COSTS, load, workers - 1).worker_cores > (workers - 1) * HOST.utilisation


def test_big_messages_are_limited_by_the_network() -> None:
    big = Costs(
        **{name: getattr(COSTS, name) for name in COSTS.__struct_fields__[:-1]}, frame_bytes=60_000
    )
    found = plan(big, Load(connections=100_000, rooms=100, rate=1.0), HOST)
    assert found.limit == "network"


def test_many_publications_need_shards() -> None:
    found = plan(COSTS, Load(connections=100_000, rooms=50_000, rate=1.0), HOST)
    # 50,000 stored and sent to nearly two workers each: 1.5 cores, at half of their time.
    assert found.shards == 3


def test_more_of_anything_never_needs_less() -> None:
    base = plan(COSTS, Load(connections=10_000, rooms=100, rate=1.0), HOST)
    for more in (
        Load(connections=20_000, rooms=100, rate=1.0),
        Load(connections=10_000, rooms=100, rate=3.0),
    ):
        found = plan(COSTS, more, HOST)
        assert found.usage.workers >= base.usage.workers
        assert found.usage.memory_bytes >= base.usage.memory_bytes
