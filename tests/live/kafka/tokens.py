"""Gives out tokens by OpenID Connect's client credentials: unsecured ones, which Kafka's own validator takes."""
import base64
import http.server
import json
import threading
import time
import urllib.parse

# So short that they end, and are asked for again, while the test runs.
LIFE_SECONDS = 20


def token(subject, scope):
    """A JSON Web Token without a signature."""
    now = int(time.time())
    claims = {"sub": subject, "scope": scope, "iat": now, "exp": now + LIFE_SECONDS}
    parts = ({"alg": "none"}, claims)
    text = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return ".".join([*text, ""])


class Tokens:
    """The provider, on a thread of its own."""

    def __init__(self, client, secret):
        provider = self
        provider.given, provider.refused = 0, 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802
                form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                wanted = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
                if any(form.get(key) != value for key, value in wanted.items()):
                    provider.refused += 1
                    return self.answer(401, {"error": "invalid_client"})
                provider.given += 1
                given = token(client, form.get("scope"))
                return self.answer(200, {"access_token": given, "token_type": "Bearer", "expires_in": LIFE_SECONDS})

            def answer(self, status, body):
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
