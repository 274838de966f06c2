"""How does a flow run tell the Prefect server what happens? Through one channel, which never holds the work up.

The ledger is the truth and Prefect shows it. A thread sends the updates one after the other. While the server is away
it keeps them and tries again; an update that replaces an earlier one with the same key is sent alone. Neither a server
that is down nor one that hangs reaches the thread that does the work.
"""

from __future__ import annotations

import contextvars
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.settings.legacy import Setting

from flows.prefect.ephemeral import server_ended
from pipelines.visible import visible

TIMEOUT_SECONDS = 10.0
"""Time after which a request counts as failed."""

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.5, 5.0
"""Time between two tries: at first, and at most; it doubles in between."""

MAX_WAITING = 2000
"""Updates kept while the server is away: a run sends two per step and a few artifacts. Further ones are lost."""

TRANSIENT = (408, 425, 429)
"""Status codes below 500 after which a request is sent again."""

CLIENT_SETTINGS: dict[Setting, Any] = {PREFECT_CLIENT_MAX_RETRIES: 0}
"""The channel tries again itself, without blocking for a minute."""


Request = Callable[[SyncPrefectClient], None]
"""One request to the server. It may be sent twice: an answer can be lost."""


class Channel:
    """Sends updates to the server of the current Prefect settings, in order, from a thread of its own.

    say: prints one line when the server is away, and one when all has been reported.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._waiting: OrderedDict[str, Request] = OrderedDict()
        self._changed = threading.Condition()
        self._closing = False
        self.away = False
        context = contextvars.copy_context()  # Prefect's settings are in a context variable
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="prefect-channel", daemon=True)
        self._thread.start()

    def send(self, request: Request, key: str | None = None) -> None:
        """Queue a request. It replaces a waiting one with the same key; of those without a key all are sent."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING and key not in self._waiting:
                return
            self._waiting[key or str(uuid4())] = request
            self._changed.notify_all()

    def close(self, seconds: float) -> bool:
        """Wait until all is sent, at most so long; returns whether it is. Nothing is sent after it."""
        with self._changed:
            done = self._changed.wait_for(lambda: not self._waiting, seconds)
            self._closing = True
            self._changed.notify_all()
        return done

    def _run(self) -> None:
        with temporary_settings(CLIENT_SETTINGS):
            client: SyncPrefectClient | None = None
            delay = FIRST_RETRY_SECONDS
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._closing)
                    if self._closing:
                        return
                    key, request = next(iter(self._waiting.items()))
                try:
                    client = client or get_client(sync_client=True, httpx_settings={"timeout": TIMEOUT_SECONDS})
                    request(client)
                except Exception as error:
                    if is_away(error):
                        self._report_away(error)
                        with self._changed:
                            self._changed.wait_for(lambda: self._closing, delay)
                        delay = min(2 * delay, LAST_RETRY_SECONDS)
                        continue
                    # The server refused this one (a run deleted in the UI, a key without the right): it is not sent.
                delay = FIRST_RETRY_SECONDS
                with self._changed:
                    if self._waiting.get(key) is request:
                        del self._waiting[key]
                    is_up_to_date = not self._waiting
                    self._changed.notify_all()
                if self.away and is_up_to_date:
                    self.away = False
                    self._say("the Prefect server answers again; the run is up to date there")

    def _report_away(self, error: Exception) -> None:
        if not self.away:
            self.away = True
            outlook = " without it" if server_ended() else ", and is reported when it does"
            self._say(f"the Prefect server does not answer ({reason_of(error)}); the work goes on{outlook}")


def is_away(error: BaseException) -> bool:
    """Whether an error of a request means that the server cannot answer now, rather than that it refused."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code in TRANSIENT
    return isinstance(error, httpx.TransportError | OSError)


def reason_of(error: BaseException) -> str:
    """An error of a request in a few words."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    return str(error).partition("\n")[0] or type(error).__name__


class Artifact:
    """An artifact of a flow run, created with the first `write`. type: `progress`, `table` or `markdown`."""

    def __init__(self, channel: Channel, flow_run: UUID, type: str, key: str, description: str) -> None:
        self._channel, self._key = channel, key
        self._body = {"key": key, "type": type, "description": description, "flow_run_id": str(flow_run)}
        self._id: str | None = None

    def write(self, data: float | str | Sequence[Mapping[str, Any]]) -> None:
        """Show this data from now on: a share in percent, Markdown, or the lines of a table."""
        if isinstance(data, str):
            data = visible(data)
        elif not isinstance(data, float | int):
            data = json.dumps([{name: _cell(value) for name, value in line.items()} for line in data])

        def request(client: SyncPrefectClient) -> None:
            if self._id is None:
                answer = client.request("POST", "/artifacts/", json={**self._body, "data": data})
                self._id = answer.json()["id"]
            else:
                client.request("PATCH", "/artifacts/{id}", path_params={"id": self._id}, json={"data": data})

        self._channel.send(request, key=f"artifact {self._key}")


def _cell(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else value
