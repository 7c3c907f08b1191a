"""A double of the Hub's OpenID provider on this machine: whoever asks is logged in as ``person`` at once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.local_server import running

CLIENT, SECRET = "the-space", "a secret that the Space shares with the provider"


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Provider(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.person = "62f264"
        self.nonces: dict[str, str] = {}  # by code

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        header = {"alg": "HS256", "typ": "JWT", "kid": "k"}
        claims = {"iss": self.address, "aud": CLIENT, "sub": self.person, "nonce": nonce, "iat": now, "exp": now + 600}
        claims |= {"name": "N", "preferred_username": "n", "profile": "p", "picture": "p"}
        signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{encoded(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest())}"


class _Requests(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        url, here = urlsplit(self.path), self.server.address
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/.well-known/openid-configuration":
            ends = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
            told = {f"{name}_endpoint": f"{here}/{end}" for name, end in ends.items()} | {"issuer": here}
            self._json(told | {"jwks_uri": f"{here}/jwks", "id_token_signing_alg_values_supported": ["HS256"]})
        elif url.path == "/jwks":
            self._json({"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": encoded(SECRET.encode())}]})
        elif url.path == "/authorize" and asked["client_id"] == CLIENT:
            code = secrets.token_hex(8)
            self.server.nonces[code] = asked["nonce"]
            self.send_response(302)
            query = urlencode({"code": code, "state": asked["state"]})
            joint = "&" if "?" in asked["redirect_uri"] else "?"
            self.send_header("Location", f"{asked['redirect_uri']}{joint}{query}")
            self.end_headers()
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        right = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        known = self.headers.get("Authorization") == f"Basic {right}"
        nonce = self.server.nonces.pop(form["code"][0], None)
        if urlsplit(self.path).path != "/token" or not known or nonce is None:
            return self.send_error(401)
        self._json(
            {"access_token": "t", "token_type": "bearer", "expires_in": 600, "id_token": self.server.id_token(nonce)}
        )

    def _json(self, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve() -> AbstractContextManager[Provider]:
    return running(Provider())
