"""Public keys that verify tokens: from a file, a key set (RFC 7517) or a map of certificates.

The settings decide which keys may verify a token, never the token itself: RFC 8725, sections 3.1
and 3.2. So each key is kept under its algorithms.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt import PyJWS
from jwt.algorithms import Algorithm, OKPAlgorithm
from jwt.exceptions import InvalidKeyError, PyJWTError

from ..files import read_file
from ..settings import AuthSettings, SettingsError

MAX_KEYS = 100
MAX_SHOWN = 5
"""Maximum number of a set's keys that the log describes."""

PublicKeys: TypeAlias = dict[str, dict[str | None, Any]]
"""Keys by algorithm and `kid`."""

_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_ALGORITHMS_OF = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("EC", "secp256k1"): ("ES256K",),
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
    ("OKP", "Ed448"): ("EdDSA",),
}
"""Algorithms by a JWK's `kty` and `crv`. There is no `oct`: a published secret is useless."""


def make_jws(algorithms: Sequence[str]) -> PyJWS:
    """Return a PyJWS with these algorithms only."""
    jws = PyJWS(algorithms=algorithms)
    if "Ed25519" in algorithms:
        jws.register_algorithm("Ed25519", _Ed25519())
    return jws


class _Ed25519(OKPAlgorithm):
    """EdDSA restricted to one curve, under its own name: RFC 9864, section 2.2."""

    def prepare_key(self, key: Any) -> Any:
        prepared = super().prepare_key(key)
        if isinstance(prepared, Ed25519PublicKey):
            return prepared
        raise InvalidKeyError("not an Ed25519 public key")


def read_public_key(settings: AuthSettings, jws: PyJWS) -> Any:
    """Read the key in the PEM file, and check that the key fits every configured algorithm.

    Raises:
        SettingsError: the file cannot be read, or has no key for one of the algorithms.
    """
    file = settings.public_key_file
    try:
        key = _load_pem(read_file(file))
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        raise SettingsError(f"auth.public_key_file: {file} {reason}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(f"auth.public_key_file: {file} is not a public key in PEM") from None
    for name in settings.algorithms:
        algorithm = jws.get_algorithm_by_name(name)
        if not _fits(algorithm, key):
            raise SettingsError(f"auth.public_key_file: {file} is no key for {name}")
        if algorithm.check_key_length(key):
            raise SettingsError(f"auth.public_key_file: {file} is too short for {name}")
    return key


def parse_key_set(body: bytes, jws: PyJWS, algorithms: Sequence[str]) -> PublicKeys:
    """Return the keys of a JSON Web Key Set, or of a JSON map of `kid` to certificate in PEM.

    Raises:
        ValueError: `body` is neither, or has no key for any of `algorithms`; lists the contents.
    """
    try:
        # Files written on Windows begin with a byte order mark.
        document = msgspec.json.decode(body.removeprefix(BOM_UTF8), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("it is not a JSON object") from None
    entries: Any = document.get("keys")
    if entries is None and document and all(isinstance(v, str) for v in document.values()):
        entries = [{"kid": kid, "x509": text} for kid, text in document.items()]
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ValueError(f"it has no `keys` that are a list of at most {MAX_KEYS}")
    keys: PublicKeys = {}
    for entry in entries:
        for algorithm, kid, key in _usable(entry, jws, algorithms):
            keys.setdefault(algorithm, {}).setdefault(kid, key)
    if not keys:
        raise ValueError(f"it has no public key for {', '.join(algorithms)}, {_contents(entries)}")
    return keys


class _KeyHead(msgspec.Struct):
    """The fields that decide whether a JWK is usable, RFC 7517 section 4; null means absent."""

    kty: str = ""
    crv: str | None = None
    kid: str | None = None
    use: str | None = None
    alg: str | None = None
    key_ops: list[str] | None = None
    d: Any = None
    x509: str | None = None


def _usable(
    entry: Any, jws: PyJWS, algorithms: Sequence[str]
) -> Iterator[tuple[str, str | None, Any]]:
    """Yield a key for each of its algorithms; an invalid key has none."""
    try:
        head = msgspec.convert(entry, _KeyHead)
    except msgspec.ValidationError:
        return
    if (
        head.use not in (None, "sig")
        or (head.key_ops is not None and "verify" not in head.key_ops)
        or head.d is not None
    ):
        return
    candidates = algorithms if head.x509 else _ALGORITHMS_OF.get((head.kty, head.crv), ())
    for name in candidates:
        if name in algorithms and (head.x509 or _is_meant_for(head, name)):
            # Issuers may publish keys for purposes unknown here. RFC 7517 section 5 requires that
            # we ignore such keys.
            try:
                algorithm = jws.get_algorithm_by_name(name)
                key = _load_pem(head.x509.encode()) if head.x509 else algorithm.from_jwk(entry)
                good = _fits(algorithm, key) and algorithm.check_key_length(key) is None
            except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
                return
            if good:
                yield name, head.kid, key


def _is_meant_for(head: _KeyHead, name: str) -> bool:
    if head.crv == "Ed25519" and head.alg in ("EdDSA", "Ed25519"):
        return True  # two names of one algorithm, both in `_ALGORITHMS_OF`
    return head.alg in (None, name)


def _fits(algorithm: Algorithm, key: Any) -> bool:
    try:
        algorithm.prepare_key(key)
    except (PyJWTError, TypeError):
        return False
    return True


def _load_pem(text: bytes) -> Any:
    """Read a public key or a certificate; the certificate's dates and issuer are ignored."""
    if _CERTIFICATE.encode() in text:
        return load_pem_x509_certificate(text).public_key()
    return load_pem_public_key(text)


def _contents(entries: list[Any]) -> str:
    """Describe the keys of a set in one line of bounded length."""
    if not entries:
        return "it is empty"
    shown = []
    for entry in entries[:MAX_SHOWN]:
        fields = entry if isinstance(entry, dict) else {}
        words = [
            f"{name}={fields[name]!r:.40}"
            for name in ("kty", "crv", "alg", "use", "kid")
            if fields.get(name) is not None
        ]
        shown.append(" ".join(words) or "something else")
    rest = len(entries) - len(shown)
    return f"only {'; '.join(shown)}" + (f"; and {rest} more" if rest else "")
