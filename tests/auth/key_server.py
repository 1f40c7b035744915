"""An issuer's side: keys, tokens signed with them, and a real HTTP server that publishes them."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from jwt import PyJWS
from jwt.algorithms import OKPAlgorithm, get_default_algorithms

NOW = 1_700_000_000

PRIVATE: dict[str, Any] = {
    "RSA": rsa.generate_private_key(65537, 2048),
    "RSA2": rsa.generate_private_key(65537, 2048),
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "P-521": ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}
"""Keys by name, made once: RSA takes its time."""

KEY_OF = {
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "PS384": "RSA",
    "PS512": "RSA",
    "ES256": "P-256",
    "ES256K": "secp256k1",
    "ES384": "P-384",
    "ES512": "P-521",
    "EdDSA": "Ed25519",
    "Ed25519": "Ed25519",
}
"""A fitting key by algorithm."""


def sign(algorithm: str, key: Any, claims: Any = None, **header: Any) -> str:
    """Return a token; `claims` are added to good ones, or are the payload itself if bytes."""
    if not isinstance(claims, bytes):
        claims = json.dumps({"sub": "alice", "exp": NOW + 60} | (claims or {})).encode()
    jws = PyJWS()
    jws.register_algorithm("Ed25519", OKPAlgorithm())
    return jws.encode(claims, key, algorithm=algorithm, headers=header)


def pem(key: Any) -> bytes:
    """Return the public part of a private key."""
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text


def write_pem(directory: Path, key: Any) -> str:
    """Write the public part of a private key and return the file's name."""
    file = directory / "key.pem"
    file.write_bytes(pem(key))
    return str(file)


def jwk(name: str, **fields: Any) -> dict[str, Any]:
    """Return the public part of a key of `PRIVATE` as a JWK with more `fields`."""
    algorithm = next((a for a, key in KEY_OF.items() if key == name), "RS256")
    public = PRIVATE[name].public_key()
    entry: dict[str, Any] = get_default_algorithms()[algorithm].to_jwk(public, as_dict=True)
    entry.pop("key_ops", None)
    return entry | fields


def certificate(key: Any) -> str:
    """Return a certificate for a private key in PEM, as Google makes them: long expired here."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "securetoken.example.org")])
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(16))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


class KeyServer:
    """Answers every GET with `body` and `status` once `gate` is open, and counts them.

    With `pause_seconds` it sends the body, or with `drip_head` the head, byte by byte, with this
    pause after each.
    """

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.headers: Mapping[str, str] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.pause_seconds = 0.0
        self.drip_head = False
        self.requests = 0
        self.open_connections = 0
        self.request_headers: Mapping[str, str] = {}
        self.url = ""

    def publish(self, *keys: dict[str, Any]) -> None:
        """Answer with a key set of these."""
        self.body = json.dumps({"keys": keys}).encode()
        self.status = 200


@contextmanager
def serve_keys() -> Iterator[KeyServer]:
    """Run a server in threads of its own, on a free port of 127.0.0.1."""
    state = KeyServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests += 1
            state.request_headers = dict(self.headers)
            state.open_connections += 1
            try:
                self.answer()
            finally:
                state.open_connections -= 1

        def answer(self) -> None:
            state.gate.wait(30)
            try:
                if state.drip_head:
                    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000:
                        self.wfile.write(bytes([byte]))
                        time.sleep(state.pause_seconds)
                self.send_response(state.status)
                for name, value in state.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if not state.pause_seconds:
                    self.wfile.write(state.body)
                    return
                for byte in state.body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(state.pause_seconds)
            except ConnectionError:
                pass  # the client had read enough, or waited enough

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/jwks.json"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        state.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
