"""Redis addresses: of one server, of sentinels, or of the seeds of a cluster."""

import re
from typing import Final, Literal, NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlencode

REDIS_URL_RULE: Final = (
    "must be a redis://, rediss:// or unix:// address with known options, "
    "redis+sentinel://HOST:PORT,…/SERVICE[/DB] or redis+cluster://HOST:PORT,… (rediss+ for TLS); "
    "special characters in a user or password are percent-encoded: %2F for /"
)

_SENTINEL_PREFIX = "sentinel_"
_LOGIN = ("username", "password")
_DEFAULT_PORTS = {"sentinel": 26_379, "cluster": 6_379}
_TOPOLOGY = re.compile(
    r"(rediss?)\+(sentinel|cluster)://(?:([^/?#]*)@)?([^/?#@]+)(/[^?#]*)?(?:\?([^#]*))?"
)
# Strict, because redis-py reads a password with a raw / or # as another host, and /x as
# database 0.
_ONE = re.compile(
    r"rediss?://(?:[^/?#]*@)?[^/?#@]*(?:/[0-9]*)?(?:\?([^#]*))?|unix://[^?#]+(?:\?([^#]*))?",
    re.ASCII,
)
_SERVER = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:,\s]+))(?::([0-9]{1,5}))?", re.ASCII)


class Address(NamedTuple):
    """The address of a server."""

    host: str
    port: int


class RedisTopology(NamedTuple):
    """The parts of a URL with several servers.

    Attributes:
        kind: the kind of the servers.
        seeds: addresses of the servers; each seed knows all other servers.
        data: URL of one Redis server with the same credentials and options; `localhost` stands for
            any host.
        sentinel: the same for one sentinel.
        service: the sentinels' name of the watched servers.
    """

    kind: Literal["sentinel", "cluster"]
    seeds: tuple[Address, ...]
    data: str
    sentinel: str
    service: str


def parse_redis_url(url: str) -> RedisTopology | None:
    """Return the parts of a `url` of several servers, or None for a URL of one server.

    Raises:
        ValueError: `url` breaks the rules of its form.
    """
    if not re.match(r"rediss?\+", url):
        _check_one(url)
        return None
    match = _TOPOLOGY.fullmatch(url)
    if match is None:
        raise ValueError(REDIS_URL_RULE)
    scheme, kind, user, hosts, path, query = match.groups(default="")
    seeds = tuple(_address(host, _DEFAULT_PORTS[kind]) for host in hosts.split(","))
    service, _, database = unquote(path).removeprefix("/").partition("/")
    if kind == "cluster":
        service, database = "", service + database
    named = bool(service) == (kind == "sentinel")
    # A cluster has one database, number 0.
    numbered = re.fullmatch(r"[0-9]*" if kind == "sentinel" else r"0?", database, re.ASCII)
    if not named or numbered is None:
        raise ValueError(REDIS_URL_RULE)
    data, sentinel = _options(query)
    if kind == "cluster" and any(name in _LOGIN for name, _ in sentinel):
        raise ValueError(REDIS_URL_RULE)
    return RedisTopology(
        cast(Literal["sentinel", "cluster"], kind),
        seeds,
        f"{scheme}://{user + '@' if user else ''}localhost/{database}?{urlencode(data)}",
        f"{scheme}://localhost?{urlencode(sentinel)}",
        service,
    )


def _check_one(url: str) -> None:
    match = _ONE.fullmatch(url)
    if match is None:
        raise ValueError(REDIS_URL_RULE)
    if query := match[1] or match[2]:
        parse_qsl(query, keep_blank_values=True, strict_parsing=True)


def _options(query: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the options for the servers and for the sentinels; TLS options go to both."""
    data, sentinel = [], []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name.startswith(_SENTINEL_PREFIX):
            sentinel.append((name.removeprefix(_SENTINEL_PREFIX), value))
        else:
            data.append((name, value))
            if name.startswith("ssl_"):
                sentinel.append((name, value))
    return data, sentinel


def _address(text: str, default_port: int) -> Address:
    match = _SERVER.fullmatch(text)
    if match is None:
        raise ValueError(REDIS_URL_RULE)
    address, name, port = match.groups(default="")
    number = int(port or default_port)
    if not 0 < number < 65_536:
        raise ValueError(REDIS_URL_RULE)
    return Address(address or name, number)
