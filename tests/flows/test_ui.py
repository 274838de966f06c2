"""`winnow ui` serves the reports of a root, and nothing else."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.ui import make_server, report_url
from pipelines.errors import WinnowError


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    root = tmp_path_factory.mktemp("root")
    run = root / "runs" / "small-1"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"finished": "2026-11-28T03:00:00"}), encoding="utf-8")
    (run / "report.html").write_text("<h1>Report</h1>", encoding="utf-8")
    (root / "report.html").write_text("secret", encoding="utf-8")
    with make_server(str(root), port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Host": host})
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


def test_the_link_of_the_run_page_opens_the_report(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_UI_URL", f"http://127.0.0.1:{port}/")
    assert report_url("small-1").startswith(f"http://127.0.0.1:{port}/")
    assert get(port, report_url("small-1").removeprefix(f"http://127.0.0.1:{port}")) == (200, "<h1>Report</h1>")
    status, page = get(port, "/")
    assert status == 200 and 'href="/runs/small-1/report.html"' in page


@pytest.mark.parametrize(
    "path",
    ["/runs/small-1/run.json", "/runs/../report.html", "/runs/%2e%2e/report.html", "/runs/none/report.html", "/x"],
)
def test_nothing_else_is_served(port: int, path: str) -> None:
    assert get(port, path)[0] == 404


def test_a_page_of_another_name_cannot_read_reports(port: int) -> None:
    assert get(port, "/", host="evil.example")[0] == 403


def test_a_port_in_use_is_a_mistake(port: int, tmp_path: Path) -> None:
    with pytest.raises(WinnowError, match="--port"):
        make_server(str(tmp_path), port=port)
