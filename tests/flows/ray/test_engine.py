"""A Ray of our own is for this machine alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys

LISTENERS = """
import json, psutil
from flows.ray.engine import ray_session
import ray
with ray_session(1):
    @ray.remote
    def one():
        return 1
    assert ray.get(one.remote()) == 1
    mine = psutil.Process()
    sockets = [
        socket
        for process in (mine, *mine.children(recursive=True))
        for socket in process.net_connections("inet")
        if socket.status == psutil.CONN_LISTEN
    ]
    print(json.dumps(sorted({socket.laddr.ip for socket in sockets})))
"""


def test_a_ray_of_our_own_listens_on_loopback_only() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", LISTENERS], capture_output=True, text=True, timeout=300, check=True, env=environment
    )
    addresses = json.loads(done.stdout.splitlines()[-1])
    assert addresses, "Ray listens somewhere"
    assert set(addresses) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}, addresses
