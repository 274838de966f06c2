"""Which Prefect server does a command use? The configured one, or one that runs for the length of the command.

Without PREFECT_API_URL, Prefect itself starts such a server when the first flow needs it: it imports the server into
this process, starts it in another one and waits, some six seconds in all. This module starts the same server, with the
same database in PREFECT_HOME, in another process at once, so that it starts while the command is still importing.
"""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

SERVER: list[subprocess.Popen[bytes]] = []
"""The server that this command started."""

WAIT_SECONDS = 120.0
"""The first start creates the database, which takes long on a busy machine."""


# On Linux the kernel ends the server when the command ends in any way: an atexit hook does not run after SIGKILL.
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
    """Start the server, unless the user has configured one. Returns a function that waits until it answers.

    Call it before anything imports Prefect, which reads its settings on import. The returned function raises
    RuntimeError if the server does not start.
    """
    if configured() or "prefect" in sys.modules:
        return lambda: None
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    # Other users of this machine reach its loopback: only who has the key, which these two processes have, is let in.
    key = f"winnow:{secrets.token_urlsafe(24)}"
    os.environ["PREFECT_API_AUTH_STRING"] = key
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)],
        env=os.environ
        | {
            "PREFECT_SERVER_API_AUTH_STRING": key,
            "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    SERVER.append(process)
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
        raise RuntimeError("the Prefect server did not start; `prefect server start` shows why")

    return wait


def server_ended() -> bool:
    """Whether this command started the server, and it has ended: it will not answer again."""
    return any(process.poll() is not None for process in SERVER)


def configured() -> bool:
    """Whether the user has configured a Prefect API: in the environment, in a profile or in a settings file."""
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    if "PREFECT_API_URL" in os.environ or "PREFECT_PROFILE" in os.environ:
        return True
    if any(path.exists() for path in (home / "profiles.toml", Path("prefect.toml"))):
        return True
    # Other programs have an `.env` too: that of docker-compose.yml lies in the checkout.
    other = Path(".env")
    return other.is_file() and "PREFECT_" in other.read_text(encoding="utf-8", errors="replace")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
