"""How are lineage events sent? By OpenLineage's client, as its environment says, and never at the cost of the build.

A thread sends; the build only puts events into a queue. After the first event that cannot be sent none is tried any
more, and the end of the build waits a few seconds at most.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable

WAIT_SECONDS = 5.0
"""How long the end of a build waits for events that are not sent yet."""


def configured() -> bool:
    """Whether the environment names a receiver: OPENLINEAGE_URL, OPENLINEAGE_CONFIG, or OPENLINEAGE__TRANSPORT..."""
    if os.environ.get("OPENLINEAGE_DISABLED", "").lower().strip() == "true":
        return False
    given = {name for name, value in os.environ.items() if value}
    transport = any(name.startswith("OPENLINEAGE__TRANSPORT") for name in given)
    return transport or bool(given & {"OPENLINEAGE_URL", "OPENLINEAGE_CONFIG"})


class Sender:
    """Sends events in a thread of its own. Without a receiver it does nothing."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._problem = ""
        self._sent = self._put = 0
        self._thread: threading.Thread | None = None
        if configured():
            self._thread = threading.Thread(target=self._send_all, name="lineage", daemon=True)
            self._thread.start()

    def __call__(self, line: str) -> None:
        """Send an event, a line of JSON, some time."""
        if self._thread is not None:
            self._put += 1
            self._queue.put(line)

    def close(self, warn: Callable[[str], None]) -> None:
        """Wait until all events are sent, for WAIT_SECONDS at most. warn: is told how many were not, and why."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(WAIT_SECONDS)
        if (left := self._put - self._sent) > 0:
            why = self._problem or f"no answer after {WAIT_SECONDS:g} s"
            warn(f"{left} of {self._put} lineage events were not sent: {why}")

    def _send_all(self) -> None:
        try:
            send = _client()
            while (line := self._queue.get()) is not None:
                send(line)
                self._sent += 1
        except Exception as error:  # whatever a transport raises, the build goes on
            self._problem = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _client() -> Callable[[str], None]:
    import logging

    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState

    logging.getLogger("openlineage").setLevel(logging.CRITICAL)  # the build says what was not sent
    client = OpenLineageClient()

    def send(line: str) -> None:
        event = json.loads(line)
        client.emit(
            RunEvent(
                eventType=RunState[event["eventType"]],
                eventTime=event["eventTime"],
                producer=event["producer"],
                run=Run(**event["run"]),
                job=Job(**event["job"]),
                inputs=[InputDataset(**one) for one in event["inputs"]],
                outputs=[OutputDataset(**one) for one in event["outputs"]],
            )
        )

    return send
