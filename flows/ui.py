"""How does a browser open the reports of a root? Through a small server: of local folders and object stores alike.

It answers GET requests for the list of runs and for `runs/<run>/report.html`, and nothing else below the root.
"""

from __future__ import annotations

import functools
import html
import http.server
import os
import re
from urllib.parse import quote, unquote, urlsplit

from pipelines.errors import WinnowError
from pipelines.ledger import storage
from pipelines.ledger.runs import REPORT, recorded

PORT = 4280
"""The default port of `winnow ui`."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")

_REPORT_PATH = re.compile(r"/runs/([A-Za-z0-9_.\-]+)/report\.html")

_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'",
}


def report_url(run: str) -> str:
    """The address of a run's report: below WINNOW_UI_URL, by default that of `winnow ui` on this machine."""
    base = os.environ.get("WINNOW_UI_URL") or f"http://127.0.0.1:{PORT}"
    return f"{base.rstrip('/')}/runs/{quote(run)}/report.html"


def make_server(root: str, host: str = "127.0.0.1", port: int = PORT) -> http.server.ThreadingHTTPServer:
    """A server of the reports below `root` that listens; `serve_forever` answers. port: 0 for a free one.

    Raises: WinnowError: if the address cannot be used.
    """
    hosts = (*LOOPBACK, host) if host in LOOPBACK else ()
    try:
        return http.server.ThreadingHTTPServer((host, port), functools.partial(_Handler, root, hosts))
    except (OSError, OverflowError) as error:
        problem = getattr(error, "strerror", None) or error
        raise WinnowError(f"{host}:{port}: {problem}; choose another with --port, or 0 for a free one") from None


class _Handler(http.server.BaseHTTPRequestHandler):
    """hosts: names that a request may give to this server; a page of another name cannot read a loopback address."""

    def __init__(self, root: str, hosts: tuple[str, ...], *arguments: object) -> None:
        self._root, self._hosts = root, hosts
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer with the list of runs, or a report."""
        asked = urlsplit("//" + self.headers.get("Host", "")).hostname
        if self._hosts and asked not in self._hosts:
            return self._answer(403, b"unknown host")
        path = unquote(urlsplit(self.path).path)
        if path in ("/", "/runs", "/runs/"):
            return self._answer(200, _index(self._root).encode())
        match = _REPORT_PATH.fullmatch(path)
        file = storage.join(self._root, "runs", match[1], REPORT) if match and match[1] not in (".", "..") else None
        if file is None or not storage.exists(file):
            return self._answer(404, b"no such report")
        self._answer(200, storage.read_bytes(file))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not printed."""


def _index(root: str) -> str:
    runs = [(str(info["finished"]), run) for run, info in recorded(root)]
    lines = [
        f'<tr><td><a href="/runs/{quote(run)}/report.html">{html.escape(run)}</a></td><td>{finished[:16]}</td></tr>'
        for finished, run in sorted(runs, reverse=True)
    ]
    style = "body{font:16px system-ui;margin:2rem}td{padding:.2rem 1.5rem .2rem 0}"
    body = f"<table>{''.join(lines)}</table>" if lines else "<p>No run is recorded here.</p>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Winnow</title><style>{style}</style>'
        f"<h1>Runs</h1><p><code>{html.escape(root)}</code></p>{body}</html>"
    )
