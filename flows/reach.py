"""Do the servers that the environment names answer? Asked before anything is imported that would wait for them.

A cluster or server that does not answer within TIMEOUT_SECONDS is a mistake in the environment: Ray would wait for
many minutes, and Prefect retries every request.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.errors import WinnowError

TIMEOUT_SECONDS = 5.0

HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""The beginning of an HTTP/2 connection: the preface, and an empty frame of settings."""

SETTINGS_FRAME = 4
"""Type of the frame with which a server of HTTP/2, such as Ray's, begins its answer."""


def check_ray() -> None:
    """Check the cluster of RAY_ADDRESS, if the variable is set.

    Raises: WinnowError: naming the variable, its value, and what to do.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local"):
        return
    mend = "unset RAY_ADDRESS to use this machine alone"
    named = f"RAY_ADDRESS={address}"
    if address.startswith("ray://"):
        raise WinnowError(
            f"{named}: run inside the cluster (RAY_ADDRESS=auto, or `ray job submit`), not through ray://"
        )
    if address == "auto":
        if _head_runs_here():
            return
        address = _last_cluster()
        if not address:
            raise WinnowError(f"{named}: no cluster runs on this machine; start one with `ray start --head`, or {mend}")
        named += f" ({address})"
    host, port = _host_and_port(address)
    if host is None or port is None:
        raise WinnowError(f"{named}: write host:port, such as 10.0.0.1:6379, or `auto`; or {mend}")
    problem = _connect(host, port)
    if problem:
        raise WinnowError(
            f"{named}: no Ray cluster answers there ({problem}); start it, set the address of its head node, or {mend}"
        )


def check_prefect() -> None:
    """Check the server of PREFECT_API_URL, if the variable is set.

    Raises: WinnowError: naming the variable, its value, and what to do.
    """
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        return
    mend = "start it with `prefect server start`, set its address, or unset PREFECT_API_URL"
    if urlsplit(url).scheme not in ("http", "https"):
        raise WinnowError(f"PREFECT_API_URL={url}: write an address such as http://127.0.0.1:4200/api; or {mend}")
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=TIMEOUT_SECONDS) as answer:
            if answer.read(16).strip() == b"true" or "/accounts/" in url:
                return
            problem = "another kind of server; the address of an API ends in /api"
    except urllib.error.HTTPError as error:
        # A server that wants the key, which Prefect sends; and Prefect Cloud, which has no such page.
        if error.code in (401, 403) or (error.code == 404 and "/accounts/" in url):
            return
        problem = f"status {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", error), ssl.SSLError):  # it answers; Prefect has its own certificates
            return
        problem = _reason(error)
    raise WinnowError(f"PREFECT_API_URL={url}: no Prefect server answers there ({problem}); {mend}")


def _head_runs_here() -> bool:
    """Whether a head node of Ray runs on this machine: the process that `auto` looks for."""
    import psutil

    return any(process.info["name"] == "gcs_server" for process in psutil.process_iter(["name"]))


def _last_cluster() -> str:
    """The address that the last `ray start` on this machine has left; empty if there is none."""
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _host_and_port(address: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(f"//{address}")
        return parts.hostname, parts.port
    except ValueError:
        return None, None


def _connect(host: str, port: int) -> str:
    """Why a head node of Ray cannot be reached; empty if it can. It speaks gRPC, which is HTTP/2."""
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return ""
            connection.sendall(HTTP2_HELLO)
            frame = b""
            while len(frame) < 4 and (part := connection.recv(4 - len(frame))):
                frame += part
            return "" if frame[3:4] == bytes([SETTINGS_FRAME]) else "another kind of server, or one that closed"
    except OSError as error:
        return _reason(error)


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    return str(getattr(cause, "strerror", None) or cause).lower()
