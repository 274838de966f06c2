"""A cluster or server that the environment names and that does not answer is told at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import flows.reach
from flows.reach import check_prefect, check_ray
from pipelines.errors import WinnowError

WINNOW = Path(sys.executable).parent / "winnow"


@pytest.fixture(scope="module")
def closed() -> int:
    """A port on loopback on which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def answering() -> Iterator[int]:
    """A port on which a server answers 200 to /api/health, 401 to /keyed/health and 404 to all else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response({"/api/health": 200, "/keyed/health": 401}.get(self.path, 404))
            self.end_headers()
            self.wfile.write(b"true" if self.path == "/api/health" else b"<html>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("words", "variable", "value", "mend"),
    [
        (["build", "demo", "--engine", "ray"], "RAY_ADDRESS", "127.0.0.1:{}", "unset RAY_ADDRESS"),
        (["build", "demo", "--engine", "ray"], "RAY_ADDRESS", "ray://127.0.0.1:{}", "ray job submit"),
        (["build", "demo", "--engine", "local"], "PREFECT_API_URL", "http://127.0.0.1:{}/api", "prefect server start"),
    ],
)
@pytest.mark.fault("RAY_ADDRESS or PREFECT_API_URL does not answer", "refused in seconds, by name")
def test_a_command_refuses_what_does_not_answer(
    tmp_path: Path, closed: int, words: list[str], variable: str, value: str, mend: str
) -> None:
    value = value.format(closed)
    environment = {name: text for name, text in os.environ.items() if name not in ("RAY_ADDRESS", "PREFECT_API_URL")}
    done = subprocess.run(
        [WINNOW, *words, "--root", str(tmp_path)],
        env=environment | {variable: value, "PREFECT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert f"error: {variable}={value}: " in done.stderr and mend in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "host:port", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(WinnowError, match=f"^RAY_ADDRESS={address}: write host:port"):
        check_ray()


def test_auto_without_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed: int) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    if flows.reach._head_runs_here():
        pytest.skip("a cluster runs on this machine")
    with pytest.raises(WinnowError, match=r"^RAY_ADDRESS=auto: no cluster runs on this machine; .*ray start --head"):
        check_ray()
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{closed}\n", encoding="utf-8")
    with pytest.raises(WinnowError, match=rf"^RAY_ADDRESS=auto \(127.0.0.1:{closed}\): no Ray cluster answers there"):
        check_ray()


@pytest.mark.fault("a port that accepts and says nothing", "refused in seconds")
def test_a_port_that_accepts_and_says_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, silent: int) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{silent}")
    monkeypatch.setattr(flows.reach, "TIMEOUT_SECONDS", 0.5)
    with pytest.raises(WinnowError, match="no answer within"):
        check_ray()


@pytest.mark.parametrize("address", ["", "local"])
def test_no_cluster_is_named_and_none_is_asked(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    check_ray()
    check_prefect()


def test_a_prefect_server_is_asked_for_its_health(monkeypatch: pytest.MonkeyPatch, answering: int) -> None:
    for path in ("api", "api/", "keyed"):
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{answering}/{path}")
        check_prefect()
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{answering}/elsewhere")
    with pytest.raises(WinnowError, match=r"no Prefect server answers there \(status 404\)"):
        check_prefect()


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, silent: int) -> None:
    monkeypatch.setattr(flows.reach, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{silent}/api")
    with pytest.raises(WinnowError, match=r"no answer within 0\.2 s"):
        check_prefect()
    monkeypatch.setenv("PREFECT_API_URL", "127.0.0.1:4200")
    with pytest.raises(WinnowError, match="write an address such as"):
        check_prefect()


def test_a_server_of_another_kind_is_no_ray_cluster(answering: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{answering}")
    with pytest.raises(WinnowError, match=r"RAY_ADDRESS=.*another kind of server"):
        check_ray()
