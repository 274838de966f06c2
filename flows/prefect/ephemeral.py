"""A Prefect server for the length of a command, started while the rest of the command is still loading.

Without PREFECT_API_URL Prefect starts such a server itself, when the first flow asks for one: it loads the server into
this process, starts it in another and waits, some six seconds in which nothing else happens. A command knows from the
start that it will want one, and needs none of it in its own process. Same server, same database in PREFECT_HOME.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

WAIT_SECONDS = 120.0
"""The first start of all makes the database; on a busy machine that takes a while."""


# Linux ends the server with the command that started it, however that ends: an atexit hook does not run on kill -9.
SERVE = """
import ctypes, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
import uvicorn
uvicorn.run(
    "prefect.server.api.server:create_app", factory=True, host="127.0.0.1", port=int(sys.argv[1]), log_level="error"
)
"""


def start_server() -> Callable[[], None]:
    """Start the server, unless the user has configured one; returns a function that waits until it answers.

    Call it before anything imports Prefect, which reads its settings then. Errors (of the returned function):
    RuntimeError where the server does not come up.
    """
    if configured() or "prefect" in sys.modules:
        return lambda: None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)],
        env=os.environ | {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    atexit.register(_stop, process)
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"

    def wait() -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("Prefect's server did not start; `prefect server start` says why")

    return wait


def configured() -> bool:
    """Whether the user has said anything about Prefect's API, in the environment, a profile or a settings file."""
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    files = (home / "profiles.toml", Path("prefect.toml"), Path(".env"))
    return "PREFECT_API_URL" in os.environ or "PREFECT_PROFILE" in os.environ or any(path.exists() for path in files)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
