"""An OpenID provider that publishes its configuration."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.support.token_issuer import Issuer as KeyServer
from tests.support.token_issuer import issuer as key_server  # noqa: F401 - a fixture


class Provider:
    """Publishes an OpenID configuration; its keys are at another address."""

    def __init__(self, keys: KeyServer) -> None:
        self.configuration: dict[str, Any] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(provider.configuration).encode()
                known = self.path == "/realm/.well-known/openid-configuration"
                self.send_response(200 if known else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.issuer = f"http://127.0.0.1:{self._server.server_port}/realm"
        self.configuration = {
            "issuer": self.issuer,
            "jwks_uri": f"{keys.url}/auth/v1/.well-known/jwks.json",
        }

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def provider(key_server: KeyServer) -> Iterator[Provider]:  # noqa: F811
    provider = Provider(key_server)
    yield provider
    provider.close()
