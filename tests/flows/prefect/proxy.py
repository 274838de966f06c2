"""An HTTP proxy in front of the Prefect server: it counts requests, and can answer like a server without database."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
from collections import Counter
from urllib.parse import urlsplit

DROPPED = ("host", "accept-encoding", "connection")
"""Headers that are not forwarded; answers are passed on as they come, so they must not be compressed."""


class Proxy(http.server.ThreadingHTTPServer):
    """Forwards to `api`. away: status with which requests are answered instead; None to forward them."""

    daemon_threads = True

    def __init__(self, api: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(api)
        self.away: int | None = None
        self.refused = 0
        self.requests: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{self.target.path}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "upgrade" in self.headers.get("Connection", "").lower():  # events go another way
            return self._answer(501, b"")
        if self.server.away is not None:
            self.server.refused += 1
            return self._answer(self.server.away, b"{}")
        kind = self.path.removeprefix(self.server.target.path).split("/")[1]
        self.server.requests[f"{self.command} {kind}"] += 1
        connection = http.client.HTTPConnection(self.server.target.netloc, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in DROPPED}
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, headers)
            reply = connection.getresponse()
            self._answer(reply.status, reply.read())

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status not in (204, 304):
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass
