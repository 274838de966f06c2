"""The demo recipe on an S3 API on loopback and on a local disk: requests of each step, seconds, and faults.

The faults: every request is answered with 503 for 30 s, or waits a second for 30 s, from the middle of the build on.
Each build ends with the bytes of the local one.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.build import BuildAnswer, build
from pipelines.ledger import storage
from tests.compare_roots import LEFT_OUT
from tests.object_store import ObjectStore, object_store

FAULT_SECONDS = 30


def bench(data: Path | None) -> dict[str, list[dict[str, object]]]:
    """Tables by heading."""
    with tempfile.TemporaryDirectory() as folder, object_store() as server:
        os.environ.update(server.environment)
        local, seconds = _timed(folder)
        rows, stored, stored_seconds = _counted(server, local)
        expected = _digests(local.root)
        assert _digests(stored.root) == expected
        rows.append({"step": "all", "seconds, local disk": seconds, "seconds, S3": stored_seconds})
        faults = [
            _with_fault(server, "answers 503 for 30 s", lambda: server.fail(FAULT_SECONDS), seconds, expected),
            _with_fault(server, "answers 500 for 30 s", lambda: server.fail(FAULT_SECONDS, 500), seconds, expected),
            _with_fault(server, "1 s slower for 30 s", lambda: server.slow(FAULT_SECONDS, 1.0), seconds, expected),
        ]
    return {"Requests and seconds by step": rows, "Faults": faults}


def _timed(root: str) -> tuple[BuildAnswer, float]:
    started = time.monotonic()
    answer = build("demo", root, "local", 1)
    return answer, time.monotonic() - started


def _counted(server: ObjectStore, local: BuildAnswer) -> tuple[list[dict[str, object]], BuildAnswer, float]:
    with server.counted() as counts:
        answer, seconds = _timed(f"{server.bucket()}/root")
    by_step: dict[str, Counter[str]] = {}
    for method, path, size in counts["log"]:
        step = path.split("/steps/")[1].split("/")[0].rpartition("-")[0] if "/steps/" in path else "run, leases, lists"
        count = by_step.setdefault(step, Counter())
        count[method] += 1
        count["MB"] += size if method == "GET" else 0
    seconds_of: dict[str, Any] = {step.name: step.seconds for step in answer.steps}
    local_of: dict[str, Any] = {step.name: step.seconds for step in local.steps}
    rows: list[dict[str, object]] = []
    for step in [*seconds_of, *sorted(set(by_step) - set(seconds_of))]:
        count = by_step.get(step, Counter())
        rows.append(
            {
                "step": step,
                **{method: count[method] for method in ("PUT", "GET", "HEAD", "LIST", "DELETE", "POST")},
                "MB read": round(count["MB"] / 1e6, 1),
                "seconds, local disk": local_of.get(step, ""),
                "seconds, S3": seconds_of.get(step, ""),
            }
        )
    rows.append({"step": "requests", **counts["requests"], "MB read": round(counts["bytes"].get("GET", 0) / 1e6, 1)})
    return rows, answer, seconds


def _with_fault(
    server: ObjectStore, name: str, start: Callable[[], None], after: float, expected: dict[str, str]
) -> dict[str, object]:
    timer = threading.Timer(after / 2, start)
    timer.start()
    answer, seconds = _timed(f"{server.bucket()}/root")
    timer.cancel()
    server.fail(0)
    return {"the store": name, "seconds": seconds, "same bytes": "yes" if _digests(answer.root) == expected else "NO"}


def _digests(root: str) -> dict[str, str]:
    left_out = LEFT_OUT - {"manifest.json"}
    return {
        name: storage.digest(storage.join(root, name))
        for name in storage.sizes(root)
        if Path(name).name not in left_out and not name.startswith("runs/")
    }
