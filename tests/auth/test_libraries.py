"""Tokens that other people's libraries make, each installed in a folder of its own."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chat_server.auth.claims import TopicGrants
from chat_server.auth.tokens import Verifier
from chat_server.clock import SystemClock
from chat_server.settings import AuthSettings

from .key_server import KEY_OF, PRIVATE, write_pem

pytestmark = [pytest.mark.extra, pytest.mark.timeout(600)]

SECRET = "0123456789abcdef" * 4
SECONDS = 300

PYTHON = {
    "python-jose[cryptography]==3.5.0": """
from jose import jwt
def sign(claims, key, alg): return jwt.encode(claims, key, algorithm=alg)
""",
    "authlib==1.9.10": """
from authlib.jose import JsonWebToken
def sign(claims, key, alg): return JsonWebToken([alg]).encode({"alg": alg}, claims, key).decode()
""",
    "joserfc==1.8.0": """
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
kinds = {"H": OctKey, "R": RSAKey, "P": RSAKey, "E": ECKey}
def sign(claims, key, alg):
    kind = OKPKey if alg.startswith("Ed") else kinds[alg[0]]
    return jwt.encode({"alg": alg}, claims, kind.import_key(key), algorithms=[alg])
""",
    "jwcrypto==1.6.1": """
import json
from jwcrypto import jwk, jwt
def sign(claims, key, alg):
    k = jwk.JWK.from_password(key) if alg.startswith("HS") else jwk.JWK.from_pem(key.encode())
    token = jwt.JWT(header={"alg": alg, "typ": "JWT"}, claims=claims, algs=[alg])
    token.make_signed_token(k)
    return token.serialize()
""",
}
PYTHON_MAIN = """
import json, sys
job = json.load(sys.stdin)
print(json.dumps([sign(job["claims"], key, alg) for alg, key in job["keys"]]))
"""

JAVASCRIPT = {
    "jose@6.2.18": """
import { SignJWT, importPKCS8 } from "jose";
export const sign = async (claims, key, alg) =>
  new SignJWT(claims)
    .setProtectedHeader({ alg })
    .sign(alg.startsWith("HS") ? new TextEncoder().encode(key) : await importPKCS8(key, alg));
""",
    "jsonwebtoken@9.0.3": """
import jwt from "jsonwebtoken";
export const sign = async (claims, key, alg) =>
  jwt.sign(claims, key, { algorithm: alg, noTimestamp: true });
""",
}
JAVASCRIPT_MAIN = """
import { sign } from "./sign.mjs";
import { readFileSync } from "node:fs";
const { claims, keys } = JSON.parse(readFileSync(0, "utf-8"));
const tokens = [];
for (const [alg, key] of keys) tokens.push(await sign(claims, key, alg));
console.log(JSON.stringify(tokens));
"""

COMMON = ("HS256", "HS512", "RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA")
ALGORITHMS = {
    "python-jose[cryptography]==3.5.0": ("HS256", "HS512", "RS256", "ES256", "ES384", "ES512"),
    "jsonwebtoken@9.0.3": ("HS256", "HS512", "RS256", "PS256", "ES256", "ES384", "ES512"),
    "jose@6.2.18": (*COMMON, "Ed25519"),
    "authlib==1.9.10": COMMON,
    "joserfc==1.8.0": (*COMMON, "Ed25519"),
    "jwcrypto==1.6.1": COMMON,
}


def claims() -> dict[str, Any]:
    """Return claims as callers of these libraries write them: with the clock as it is."""
    now = time.time()
    topics = {"subscribe": ["user:{sub}"], "publish": None}
    return {"sub": "auth0|7", "iat": now - 5, "nbf": now - 5, "exp": now + 600.5, "topics": topics}


def pkcs8(algorithm: str) -> str:
    if algorithm.startswith("HS"):
        return SECRET
    key = PRIVATE[KEY_OF[algorithm]]
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


def run(command: list[str], folder: Path, package: str) -> list[str]:
    """Let the package sign the claims with each algorithm it knows."""
    job = {"claims": claims(), "keys": [(name, pkcs8(name)) for name in ALGORITHMS[package]]}
    shown = subprocess.check_output(
        command, cwd=folder, input=json.dumps(job), text=True, timeout=SECONDS
    )
    tokens: list[str] = json.loads(shown)
    return tokens


def check(tokens: list[str], package: str, folder: Path) -> None:
    """Verify each token with the settings for its algorithm alone."""
    assert len(tokens) == len(ALGORITHMS[package])
    for name, token in zip(ALGORITHMS[package], tokens, strict=True):
        fields: dict[str, Any] = {"algorithms": [name]}
        if name.startswith("HS"):
            fields["secret"] = SECRET
        else:
            fields["public_key_file"] = write_pem(folder, PRIVATE[KEY_OF[name]])
        subject = Verifier(msgspec.convert(fields, AuthSettings), SystemClock())
        got = subject.verify_now(token)
        assert got is not None
        assert (got.sub, got.topics) == ("auth0|7", TopicGrants(subscribe=("user:{sub}",))), name


@pytest.mark.parametrize("package", PYTHON)
def test_tokens_of_python(package: str, tmp_path: Path) -> None:
    target = tmp_path / "packages"
    install = [sys.executable, "-m", "pip", "install", "-q", "--target", str(target), package]
    subprocess.run(install, check=True, timeout=SECONDS)
    script = f"import sys; sys.path.insert(0, {str(target)!r})\n{PYTHON[package]}{PYTHON_MAIN}"
    check(run([sys.executable, "-c", script], tmp_path, package), package, tmp_path)


@pytest.mark.parametrize("package", JAVASCRIPT)
def test_tokens_of_javascript(package: str, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"type": "module"}')
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", package]
    subprocess.run(install, cwd=tmp_path, check=True, timeout=SECONDS)
    (tmp_path / "sign.mjs").write_text(JAVASCRIPT[package])
    (tmp_path / "main.mjs").write_text(JAVASCRIPT_MAIN)
    check(run(["node", "main.mjs"], tmp_path, package), package, tmp_path)
