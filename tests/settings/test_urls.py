"""Redis addresses that name several servers."""

from chat_server.settings import Address, take_apart


def test_one_server_is_left_alone() -> None:
    assert take_apart("redis://h:1,h2/0") is None
    assert take_apart("unix:///run/redis.sock") is None


def test_sentinels() -> None:
    several = take_apart(
        "rediss+sentinel://u:p%40@a:1,[fe80::1]:2,c/my%20chat/3"
        "?sentinel_username=s&sentinel_password=q%26&ssl_cert_reqs=none&client_name=x"
    )
    assert several is not None
    assert several.kind == "sentinel"
    assert several.seeds == (Address("a", 1), Address("fe80::1", 2), Address("c", 26_379))
    assert several.service == "my chat"
    assert several.data == "rediss://u:p%40@localhost/3?ssl_cert_reqs=none&client_name=x"
    assert several.sentinel == "rediss://localhost?username=s&password=q%26&ssl_cert_reqs=none"


def test_a_cluster() -> None:
    several = take_apart("redis+cluster://:p@a,b:7000")
    assert several is not None
    assert several.kind == "cluster"
    assert several.seeds == (Address("a", 6_379), Address("b", 7_000))
    assert several.data == "redis://:p@localhost/?"
