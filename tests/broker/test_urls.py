"""Redis addresses that name several servers."""

from chat_server.broker.redis.urls import Address, parse_redis_url


def test_one_server_is_left_alone() -> None:
    assert parse_redis_url("redis://h:1,h2/0") is None
    assert parse_redis_url("unix:///run/redis.sock") is None


def test_sentinels() -> None:
    topology = parse_redis_url(
        "rediss+sentinel://u:p%40@a:1,[fe80::1]:2,c/my%20chat/3"
        "?sentinel_username=s&sentinel_password=q%26&ssl_cert_reqs=none&client_name=x"
    )
    assert topology is not None
    assert topology.kind == "sentinel"
    assert topology.seeds == (Address("a", 1), Address("fe80::1", 2), Address("c", 26_379))
    assert topology.service == "my chat"
    assert topology.data == "rediss://u:p%40@localhost/3?ssl_cert_reqs=none&client_name=x"
    assert topology.sentinel == "rediss://localhost?username=s&password=q%26&ssl_cert_reqs=none"


def test_a_cluster() -> None:
    topology = parse_redis_url("redis+cluster://:p@a,b:7000")
    assert topology is not None
    assert topology.kind == "cluster"
    assert topology.seeds == (Address("a", 6_379), Address("b", 7_000))
    assert topology.data == "redis://:p@localhost/?"
