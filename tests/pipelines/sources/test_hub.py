"""Reading from the hub, from a mirror and from files: the real client, and a hub on the loopback interface.

The client reads the hub's address when it is imported, so it runs in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli.render import plan_lines
from pipelines.ledger import input_files
from pipelines.plan import Plan
from pipelines.recipe import load

COMMIT = "0" * 40
LARGE_FILE_ROWS = 60_000
"""Rows of a file that is larger than one request."""

SCRIPT = """
import json, sys
from pipelines.ledger.engine import LocalEngine
from pipelines.steps.ingest import ingest
from pipelines.recipe import load
from pipelines.ledger.run import Run
manifest = ingest(Run(sys.argv[2], LocalEngine(1)), load(sys.argv[1], sys.argv[3:]))
files = {kind: [shard.digest for shard in getattr(manifest, kind)] for kind in ("shards", "dropped")}
print(json.dumps(files | {"rows": manifest.rows_kept, "counts": manifest.counts}))
"""


class Hub(ThreadingHTTPServer):
    """The hub's API for data sets in `<folder>/datasets/<owner>/<name>`: information, trees and files."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.folder = folder
        self.requested: dict[str, list[int]] = {}
        self.breaks_at: int | None = None
        self.gated: str | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Page(BaseHTTPRequestHandler):
    """One request."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/").split("/")
        if path[:2] == ["api", "datasets"] and len(path) >= 4:
            self._api(path[2:4], path[4:])
        elif path[0] == "datasets" and path[3] == "resolve" and path[4] == "main":
            self._file("/".join(path[1:3]), "/".join(path[5:]))
        else:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = urllib.parse.urlsplit(self.path).path.strip("/").split("/")
        assert path[4] == "paths-info"
        root = self.server.folder / "datasets" / "/".join(path[2:4])
        asked = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
        self._json([self._entry(root, root / name) for name in asked])

    def _api(self, name: list[str], rest: list[str]) -> None:
        root = self.server.folder / "datasets" / "/".join(name)
        if "/".join(name) == self.server.gated:
            self._send(403, b'{"error": "Access is restricted"}', {})
        elif not root.is_dir():
            self._send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
        elif rest[:1] == ["tree"]:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            below = root / "/".join(rest[2:])
            if not below.is_dir():
                self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
                return
            paths = sorted(below.rglob("*") if deep else below.iterdir())
            self._json([self._entry(root, path) for path in paths])
        else:
            self._json({"id": "/".join(name), "sha": COMMIT, "siblings": [], "private": False, "tags": []})

    @staticmethod
    def _entry(root: Path, path: Path) -> dict[str, Any]:
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            return {"type": "directory", "oid": "1" * 40, "size": 0, "path": name}
        content = path.read_bytes()
        lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return {"type": "file", "oid": "2" * 40, "size": len(content), "path": name, "lfs": lfs}

    def _file(self, name: str, path: str) -> None:
        content = (self.server.folder / "datasets" / name / path).read_bytes()
        body, status, headers = content, 200, {}
        if (requested := self.headers.get("Range")) and requested.startswith("bytes="):
            first, _, last = requested.removeprefix("bytes=").partition("-")
            if self.server.breaks_at is not None and int(first) >= self.server.breaks_at:
                self._send(403, b"{}", {})
                return
            body = content[int(first) : int(last) + 1 if last else None]
            status, headers = 206, {"Content-Range": f"bytes {first}-{int(first) + len(body) - 1}/{len(content)}"}
        self.server.requested.setdefault(path, []).append(len(body))
        self._send(status, body, headers)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, "ETag": '"x"', **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the layout of the hub and some of the sources of HRM-Text."""
    folder = tmp_path_factory.mktemp("hub")

    def parquet(path: str, rows: list[dict[str, Any]]) -> None:
        file = folder / "datasets" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.Table.from_pylist(rows), file, row_group_size=100_000, compression="none", use_dictionary=False
        )

    questions = [{"question": f"q{i} " + "long " * 40, "answer": f"{i}\n#### {i}"} for i in range(LARGE_FILE_ROWS)]
    parquet("openai/gsm8k/main/train-00000-of-00001.parquet", questions)
    parquet("openai/gsm8k/main/test-00000-of-00001.parquet", questions[:1])
    for part in range(2):
        tasks = [{"inputs": f"q{i}", "targets": f"a{part}", "_task_name": f"t{i % 3}"} for i in range(50)]
        parquet(f"Open-Orca/FLAN/cot_zsopt_data/part.{part}.parquet", tasks)
    omni = folder / "datasets" / "KbsdJames" / "Omni-MATH" / "test.jsonl"
    omni.parent.mkdir(parents=True)
    omni.write_text('{"problem": "p", "solution": "s", "answer": "a"}\n{broken\n')
    return folder


@pytest.fixture
def hub(folder: Path) -> Iterator[Hub]:
    with Hub(folder) as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: hub\nsources:\n  - {name: gsm8k, adapter: gsm8k}\n  - {name: omnimath, adapter: omnimath}\n"
        "  - {name: flan, adapter: flan, path: hf://datasets/Open-Orca/FLAN@main/cot_zsopt_data/*.parquet}\n"
    )
    return path


def read(
    recipe: Path, root: Path, address: str, *settings: str, script: str = SCRIPT
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": address, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(root / "hf")}
    return subprocess.run(
        [sys.executable, "-c", script, str(recipe), str(root), *settings],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )


def test_the_hub_and_a_mirror_give_the_same_bytes_and_no_file_is_requested_whole(
    hub: Hub, folder: Path, recipe: Path, tmp_path: Path
) -> None:
    from_hub = read(recipe, tmp_path / "a", hub.address)
    assert not from_hub.returncode, from_hub.stderr
    result = json.loads(from_hub.stdout)
    assert result["rows"] == LARGE_FILE_ROWS + 2 + 100 and result["counts"] == {"conform/broken_json": 1}

    # The large file is one row group. It is read in blocks of a column, and only the columns that are needed, once.
    name = "main/train-00000-of-00001.parquet"
    size = (folder / "datasets/openai/gsm8k" / name).stat().st_size
    assert size > 3 * input_files.REMOTE_BLOCK
    assert max(hub.requested[name]) <= input_files.REMOTE_BLOCK
    assert sum(hub.requested[name]) < 1.2 * size
    assert "main/test-00000-of-00001.parquet" not in hub.requested

    # No server listens at this address: with a mirror, none is needed.
    from_mirror = read(recipe, tmp_path / "b", "http://127.0.0.1:9", f"mirror={folder}")
    assert not from_mirror.returncode, from_mirror.stderr
    mirrored = json.loads(from_mirror.stdout)
    assert mirrored == result


def test_the_error_for_a_hub_that_cannot_be_reached_names_the_path(recipe: Path, tmp_path: Path) -> None:
    failed = read(recipe, tmp_path, "http://127.0.0.1:9", "sources.1.path=hf://datasets/KbsdJames/Omni-MATH/test.jsonl")
    assert failed.returncode
    last = failed.stderr.strip().splitlines()[-1]
    assert "InputError: source 'gsm8k': hf://datasets/openai/gsm8k/main/train-*.parquet: cannot be reached" in last


PLAN = """
import json, sys
from pipelines.plan import plan
from pipelines.recipe import load
print(plan(load(sys.argv[1])).model_dump_json())
"""


def test_a_plan_reports_a_data_set_that_is_gated_or_missing_and_the_others(
    hub: Hub, recipe: Path, tmp_path: Path
) -> None:
    hub.gated = "KbsdJames/Omni-MATH"
    with recipe.open("a") as file:
        file.write("  - {name: arb, adapter: arb}\n")
    planned = read(recipe, tmp_path, hub.address, script=PLAN)
    assert not planned.returncode, planned.stderr
    answer = json.loads(planned.stdout)
    why = {file["source"]: file["why"] for file in answer["inputs"]}
    assert why["omnimath"].startswith("hf://datasets/KbsdJames/Omni-MATH/test.jsonl: refused (HfHubHTTPError: ")
    assert why["arb"].startswith("hf://datasets/imone/ARB/*.json: no such file")
    assert not why["gsm8k"] and not why["flan"] and answer["missing"] == ["arb", "omnimath"]
    assert "refused (HfHubHTTPError" in "\n".join(plan_lines(Plan.model_validate(answer)))


def test_the_error_for_a_broken_connection_has_the_number_of_rows_read(hub: Hub, recipe: Path, tmp_path: Path) -> None:
    hub.breaks_at = 2 * input_files.REMOTE_BLOCK
    failed = read(recipe, tmp_path, hub.address)
    assert failed.returncode
    assert "Unreachable: hf://datasets/openai/gsm8k/main/train-00000-of-00001.parquet: " in failed.stderr
    assert "could not be read beyond its first" in failed.stderr


@pytest.mark.parametrize(
    ("path", "copy"),
    [
        ("hf://datasets/openai/gsm8k/main/*.parquet", "datasets/openai/gsm8k/main/*.parquet"),
        ("hf://datasets/openai/gsm8k@refs%2Fpr%2F1/a@b.json", "datasets/openai/gsm8k/a@b.json"),
        ("https://storage.example.org/a/b.tar.gz", "storage.example.org/a/b.tar.gz"),
        ("s3://bucket/a.parquet", "bucket/a.parquet"),
    ],
)
def test_the_path_in_a_mirror_is_the_address_without_scheme_and_revision(path: str, copy: str) -> None:
    assert input_files.mirrored(path, "/m") == f"/m/{copy}"


def test_a_relative_mirror_is_relative_to_the_recipe_and_local_paths_are_not_mirrored(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: m\nmirror: copies\nsources:\n  - {name: gsm8k, adapter: gsm8k}\n"
        "  - {name: mine, path: mine.jsonl, condition: direct}\n"
    )
    recipe = load(str(path))
    assert recipe.sources[0].paths == (f"{tmp_path}/copies/datasets/openai/gsm8k/main/train-*.parquet",)
    assert recipe.sources[1].paths == (f"{tmp_path}/mine.jsonl",)
