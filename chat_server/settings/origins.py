"""Origins of pages, as `http.allowed_origins` names them (RFC 6454, section 6.1)."""

import functools
import re
from typing import Final
from urllib.parse import urlsplit

ANY_PAGE: Final = {
    "*": "name the origins",
    "null": "a page of any site can put itself into a frame that has this origin",
}
"""Values that allow every page of the web, each with the reason not to."""

_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://([^/?#@:\[\]]*|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", re.I
)
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.I)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_SAME_HOST_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_NO_PAGES = ("ws", "wss", "ftp", "data", "blob", "about", "javascript")
_LABELS = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"


@functools.lru_cache(maxsize=1024)
def origin_pattern(allowed: str) -> re.Pattern[str]:
    """Return a pattern that matches every Origin header that `allowed` permits.

    Args:
        allowed: `scheme://host[:port]`, in which `*.` before the host stands for one or more
            subdomains, and a host `*` for any host with a scheme other than http and https; `file://`;
            `null`; or `*` for all.

    Raises:
        ValueError: `allowed` is malformed; the message says why.
    """
    if allowed == "*":
        return re.compile(r".*\Z", re.DOTALL)
    if allowed in ("null", "file://"):
        return re.compile(re.escape(allowed) + r"\Z")
    match = _ORIGIN.fullmatch(allowed)
    if match is None:
        raise ValueError(_reason(allowed))
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    if scheme in _NO_PAGES:
        raise ValueError("is no origin of a page: those of the web begin with https:// or http://")
    default = _DEFAULT_PORTS.get(scheme)
    if port is not None and not 0 < int(port) < 65_536:
        raise ValueError("has a port above 65535, or 0")
    ports = "" if port is None else f":{int(port)}"
    if default is not None and ports in ("", f":{default}"):
        ports = f"(?::{default})?"  # Browsers leave the default port out; other clients may not.
    hosts = _host_pattern(host, of_the_web=default is not None)
    return re.compile(rf"{re.escape(scheme)}://{hosts}{ports}\Z", re.I | re.ASCII)


def is_same_host(origin: str, host: str) -> bool:
    """Return whether a page of `origin` comes from the requested host.

    Args:
        origin: the Origin header.
        host: the Host header.
    """
    # The scheme is ignored: behind a proxy that ends TLS the server does not know it.
    try:
        parts = urlsplit(origin)
        default = _SAME_HOST_PORTS.get(parts.scheme)
        if default is None or parts.hostname is None:
            return False
        own = urlsplit(f"//{host}")
        return parts.hostname == own.hostname and (parts.port or default) == (own.port or default)
    except ValueError:
        return False


def _host_pattern(host: str, *, of_the_web: bool) -> str:
    if host == "*" and not of_the_web:
        return _LABELS  # For example an extension, with a host chosen by each browser.
    if host.startswith("["):
        return re.escape(host)
    parent = host.removeprefix("*.")
    if _HOST.fullmatch(parent) is None:
        if not host.isascii():
            raise ValueError("must have its host as browsers send it, in ASCII: xn--…")
        if "*" in host:
            raise ValueError('may have "*." before the host only, as in "https://*.example.org"')
        raise ValueError("has no host that a page could have")
    if parent == host:
        return re.escape(host)
    *above, last = parent.split(".")
    if last.isdigit() or (not above and last != "localhost"):
        raise ValueError('may have "*." before a domain of one\'s own only, not before all of "."')
    return rf"{_LABELS}\.{re.escape(parent)}"


def _reason(text: str) -> str:
    if _ORIGIN.fullmatch(text.rstrip("/")):
        return 'must have no "/" at its end'
    if "://" not in text:
        return 'must begin with its scheme, as in "https://chat.example.org"'
    return 'must be an origin such as "https://chat.example.org": a scheme, a host and a port only'
