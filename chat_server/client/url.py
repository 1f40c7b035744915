"""Addresses of a server: WebSocket and API."""

from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri


def websocket_url(url: str) -> str:
    """Return the address of the WebSocket of the server at `url`.

    Raises:
        ValueError: `url` is not an http(s):// or ws(s):// address.
    """
    try:
        parts = urlsplit(url)
        scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
        if scheme is None or not parts.hostname or parts.port == 0:
            raise ValueError("it has no such scheme, or no host or port")
        parse_uri(f"{scheme}://{parts.netloc}")
    except (ValueError, InvalidURI):  # port not a number, unbalanced bracket, …
        shown = url.rpartition("@")[2]
        message = f"not an http://, https://, ws:// or wss:// address: {shown}"
        raise ValueError(message) from None
    path = parts.path.rstrip("/")
    if not path.endswith("/ws"):
        path += "/ws"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def api_url(url: str, path: str) -> str:
    """Return the http(s):// address of `path` of the server whose WebSocket is at `url`."""
    parts = urlsplit(url)
    scheme = "https" if parts.scheme == "wss" else "http"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((scheme, host, parts.path.removesuffix("/ws") + path, parts.query, ""))
