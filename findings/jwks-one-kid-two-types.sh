#!/usr/bin/env bash
# PyJWT 2.15.1 (PyJWKClient) and jwks-rsa 4.1.0 (Node) refuse the tokens of one of two keys that share a `kid` and have different types.
#
# Expected (RFC 7517, 4.5): keys of one set should have different `kid`s, and might have the same if their `kty` differs and they are
# alternatives for one another, as for an issuer that moves from RS256 to ES256. The `alg` of a token says which one it means.
# Observed: both libraries take the first key of the `kid`, and a token that the other key signed fails for its algorithm. joserfc 1.8.0,
# jwcrypto 1.6.1 and jose 6.2.18 (Node) verify both.
# It matters to issuers: give each key a `kid` of its own, or some services refuse half of the tokens from the day of the second key on.
# Exits with 1 when that changes, and with 77 without npm.
set -euo pipefail
command -v npm >/dev/null || { echo "npm is missing"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv python
python/bin/pip install --quiet PyJWT==2.15.1 cryptography joserfc==1.8.0 jwcrypto==1.6.1
npm install --silent --no-audit --no-fund jwks-rsa@4.1.0 jsonwebtoken@9.0.3 jose@6.2.18
cat >verify.mjs <<'JAVASCRIPT'
import { createRemoteJWKSet, jwtVerify } from "jose";
import jsonwebtoken from "jsonwebtoken";
import jwksRsa from "jwks-rsa";

const [url, ...tokens] = process.argv.slice(2);
const algorithms = ["RS256", "ES256"];
const keys = createRemoteJWKSet(new URL(url));
const client = jwksRsa({ jwksUri: url });
const libraries = {
  "jose 6.2.18": (token) => jwtVerify(token, keys, { algorithms }),
  "jwks-rsa 4.1.0": async (token) => jsonwebtoken.verify(token, (await client.getSigningKey("2026")).getPublicKey(), { algorithms }),
};
for (const [name, verify] of Object.entries(libraries)) {
  const outcomes = [];
  for (const token of tokens) outcomes.push(await verify(token).then(() => "verified", () => "refused"));
  console.log(`${name}: ${outcomes.join(", ")}`);
}
JAVASCRIPT
python/bin/python - <<'PYTHON'
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

import joserfc.jwk
import joserfc.jwt
import jwcrypto.jwk
import jwcrypto.jwt
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ALGORITHMS = ["RS256", "ES256"]
private = {"RS256": rsa.generate_private_key(65537, 2048), "ES256": ec.generate_private_key(ec.SECP256R1())}
public = [RSAAlgorithm.to_jwk(private["RS256"].public_key()), ECAlgorithm.to_jwk(private["ES256"].public_key())]
named = [{"kid": "2026", "alg": name, "use": "sig"} for name in ALGORITHMS]
body = json.dumps({"keys": [json.loads(key) | more for key, more in zip(public, named)]}).encode()
tokens = [jwt.encode({"sub": "alice"}, private[name], name, headers={"kid": "2026"}) for name in ALGORITHMS]


class Issuer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


server = HTTPServer(("127.0.0.1", 0), Issuer)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
client = jwt.PyJWKClient(url)
libraries = {
    "PyJWT": lambda token: jwt.decode(token, client.get_signing_key_from_jwt(token), algorithms=ALGORITHMS),
    "joserfc": lambda token: joserfc.jwt.decode(
        token, joserfc.jwk.KeySet.import_key_set(json.loads(body)), algorithms=ALGORITHMS
    ),
    "jwcrypto": lambda token: jwcrypto.jwt.JWT(jwt=token, key=jwcrypto.jwk.JWKSet.from_json(body), algs=ALGORITHMS),
}
lines = []
for name, verify in libraries.items():
    outcomes = []
    for token in tokens:
        try:
            verify(token)
            outcomes.append("verified")
        except Exception as error:
            outcomes.append(f"refused ({type(error).__name__})")
    lines.append(f"{name} {version(name)}: {', '.join(outcomes)}")
node = subprocess.run(["node", "verify.mjs", url, *tokens], capture_output=True, text=True, check=True)
lines += node.stdout.splitlines()
print("tokens by RS256 and ES256, whose keys have one kid:", *lines, sep="\n")
refusing = {line.split()[0] for line in lines if line.split(": ")[1].startswith("verified, refused")}
verifying = {line.split()[0] for line in lines if line.endswith("verified, verified")}
as_described = refusing == {"PyJWT", "jwks-rsa"} and verifying == {"joserfc", "jwcrypto", "jose"}
sys.exit(not as_described)
PYTHON
