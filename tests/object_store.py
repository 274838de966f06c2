"""An S3 API on loopback for tests: moto's, over HTTP, in a process of its own.

    python -m tests.object_store                                # prints its address; ends with its standard input
    python -m tests.object_store --host 0.0.0.0 --port 9000     # until it is killed

It counts requests, and can be told to fail or to be slow for a while. One writer creates an object, as with S3: moto
looks for the object and stores it in two steps, between which another thread may do the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONTROL = "/_control"
"""Where the server is asked for its counts (GET), and given a fault or a reset (POST, a JSON object)."""


@dataclass
class ObjectStore:
    """A running server. environment: what a process needs to reach it."""

    url: str
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def bucket(self) -> str:
        """The URL of a new bucket."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT")):
            return f"s3://{name}"

    @contextlib.contextmanager
    def counted(self) -> Iterator[dict[str, Any]]:
        """Count what is asked within the block: requests and bytes sent by method, and each request in order."""
        self._control({"reset": True})
        counts: dict[str, Any] = {}
        yield counts
        with urllib.request.urlopen(self.url + CONTROL) as answer:
            counts.update(json.load(answer))

    def fail(self, seconds: float, status: int = 503, code: str = "ServiceUnavailable", method: str = "") -> None:
        """Answer every request, or those of one method, with a status and an error code for a time."""
        self._control({"fault": {"status": status, "code": code, "method": method}, "seconds": seconds})

    def slow(self, seconds: float, delay: float) -> None:
        """Wait `delay` seconds before each answer, for a time."""
        self._control({"fault": {"delay": delay}, "seconds": seconds})

    def _control(self, value: dict[str, Any]) -> None:
        urllib.request.urlopen(self.url + CONTROL, data=json.dumps(value).encode()).close()


@contextlib.contextmanager
def object_store() -> Iterator[ObjectStore]:
    """A server for the length of the block."""
    command = [sys.executable, "-m", "tests.object_store"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        assert process.stdin and process.stdout
        url = process.stdout.readline().strip()
        assert url, "the S3 server did not start"
        yield ObjectStore(url)
        process.stdin.close()


class _Counting:
    """WSGI middleware: counts requests, and applies a fault while there is one."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self.application, self.lock, self.conditional = application, threading.Lock(), threading.Lock()
        self.fault: dict[str, Any] = {}
        self.until = 0.0
        self.reset()

    def reset(self) -> None:
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.log: list[tuple[str, str, int]] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == CONTROL:
            return self.control(environ, start_response)
        fault = self.fault if time.monotonic() < self.until else {}
        method = environ["REQUEST_METHOD"]
        if "status" in fault and fault["method"] in ("", method):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            xml = f"<Error><Code>{fault['code']}</Code><Message>{fault['code']}</Message></Error>".encode()
            headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(xml))), ("Connection", "close")]
            start_response(f"{fault['status']} Fault", headers)
            return [b"" if method == "HEAD" else xml]
        time.sleep(fault.get("delay", 0))
        with self.conditional if "HTTP_IF_NONE_MATCH" in environ else contextlib.nullcontext():
            body = b"".join(self.application(environ, start_response))
        if method == "GET" and ("list-type" in environ["QUERY_STRING"] or environ["PATH_INFO"].count("/") == 1):
            method = "LIST"
        with self.lock:
            self.requests[method] += 1
            self.sent[method] += 0 if method == "HEAD" else len(body)
            self.log.append((method, environ["PATH_INFO"], len(body)))
        return [body]

    def control(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            value = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            with self.lock:
                if "fault" in value:
                    self.fault, self.until = value["fault"], time.monotonic() + value["seconds"]
                else:
                    self.reset()
        with self.lock:
            data = json.dumps({"requests": self.requests, "bytes": self.sent, "log": self.log}).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
        return [data]


def main(host: str | None = None, port: int = 0) -> None:
    """Serve until standard input ends; with a host, until it is killed."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open, as a store's do

        def log_request(self, *_: object) -> None: ...

    application = _Counting(DomainDispatcherApplication(create_backend_app))
    server = make_server(host or "127.0.0.1", port, application, threaded=True, request_handler=Handler)
    if host:
        server.serve_forever()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.port}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, default=0)
    main(**vars(parser.parse_args()))
