"""An OpenID Connect issuer as Python's authlib makes one: metadata, keys, tokens, rotation. Prints its port.

GET /.well-known/openid-configuration, /jwks
GET /mint?alg=RS256&sub=alice&roles=a,b   a token by the newest key for that algorithm
GET /rotate                               new keys for new tokens; the old ones stay published
GET /fetched                              how often /jwks was asked for
"""

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

from authlib.jose import JsonWebKey, JsonWebToken

ALGS = ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
KINDS = {"RS": ("RSA", 2048), "PS": ("RSA", 2048), "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "EdDSA": ("OKP", "Ed25519")}
keys = []
fetched = 0


def kind(alg):
    return KINDS.get(alg) or KINDS[alg[:2]]


def rotate():
    round = len(keys)
    for number, what in enumerate({kind(alg): None for alg in ALGS}):
        options = {"kid": f"key-{round}-{number}", "use": "sig"}
        keys.insert(0, (what, JsonWebKey.generate_key(*what, options=options, is_private=True)))


def key_for(alg):
    return next(key for what, key in keys if what == kind(alg))


class Issuer(BaseHTTPRequestHandler):
    def do_GET(self):
        global fetched
        url = urlparse(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        issuer = f"http://127.0.0.1:{self.server.server_port}"
        kind = "application/json"
        if url.path == "/.well-known/openid-configuration":
            body = JSON({"issuer": issuer, "jwks_uri": f"{issuer}/jwks"})
        elif url.path == "/jwks":
            fetched += 1
            body = JSON({"keys": [key.as_dict(is_private=False) for _, key in keys]})
        elif url.path == "/mint":
            alg = query.get("alg", "RS256")
            key = key_for(alg)
            now = int(time.time())
            claims = {"iss": issuer, "aud": "gw", "iat": now, "nbf": now, "exp": now + 600, "sub": query.get("sub", "alice")}
            claims["roles"] = [role for role in query.get("roles", "").split(",") if role]
            body = JsonWebToken(ALGS).encode({"alg": alg, "kid": key.kid}, claims, key).decode()
        elif url.path == "/rotate":
            rotate()
            body = "rotated"
        elif url.path == "/fetched":
            body = str(fetched)
        else:
            return self.send_error(404)
        data = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def JSON(value):
    import json

    return json.dumps(value)


rotate()
server = ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
print(server.server_port, flush=True)
server.serve_forever()
