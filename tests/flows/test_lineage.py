"""Lineage events are OpenLineage's, are recorded and sent in order, and never break a build."""

from __future__ import annotations

import http.server
import importlib
import inspect
import json
import pkgutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attr
import pytest
from openlineage.client import generated
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState

from flows.build import build
from flows.cli.session import console_session
from pipelines.audit.verify import verify
from pipelines.errors import CheckFailed
from pipelines.export import EXPORTS
from pipelines.ledger.runs import failures, open_run
from pipelines.recipe import Recipe, SourceSpec, TokenizerSpec

FACETS = {
    kind._get_schema(): kind
    for module in pkgutil.iter_modules(generated.__path__, f"{generated.__name__}.")
    for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
    if hasattr(kind, "_get_schema")
}
"""Address of a schema -> the class of OpenLineage's package that is generated from it."""


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The events that a server on loopback received, which the environment names."""
    events: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/api/v1/lineage"
            events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{server.server_port}")
        yield events
        server.shutdown()
        thread.join()


def recipe_of(folder: Path, **keys: Any) -> Recipe:
    rows = [{"q": f"What is {n} plus {n}?", "a": f"It is {n + n}."} for n in range(40)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    mine = SourceSpec(
        name="mine",
        path=str(folder / "rows.jsonl"),
        columns={"instruction": "q", "response": "a"},
        condition="direct",
    )
    computed = SourceSpec(name="generated_units", adapter="generated_units", rows=30)
    tokenizer = TokenizerSpec(vocab_size=512)
    return Recipe(name="small", sources=(mine, computed), near_duplicates=False, tokenizer=tokenizer, **keys)


def recorded(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def facets_of(value: Any) -> Iterator[dict[str, Any]]:
    """Every facet in an event."""
    if isinstance(value, dict):
        if "_schemaURL" in value:
            yield value
        for part in value.values():
            yield from facets_of(part)
    elif isinstance(value, list):
        for part in value:
            yield from facets_of(part)


def check_events(events: list[dict[str, Any]]) -> None:
    """Every event and facet can be made by the classes of the specification, and no field is lost."""
    for event in events:
        RunEvent(
            eventType=RunState[event["eventType"]],
            eventTime=event["eventTime"],
            producer=event["producer"],
            run=Run(**event["run"]),
            job=Job(**event["job"]),
            inputs=[InputDataset(**one) for one in event["inputs"]],
            outputs=[OutputDataset(**one) for one in event["outputs"]],
        )
        for facet in facets_of(event):
            kind = FACETS[facet["_schemaURL"]]
            fields = {name: value for name, value in facet.items() if not name.startswith("_")}
            known = {field.name for field in attr.fields(kind)}
            assert fields.keys() <= known, f"{kind.__name__} has no {sorted(fields.keys() - known)}"
            kind(**fields)


def test_the_events_of_a_build_are_sent_and_recorded_with_sources_schemas_and_statistics(
    tmp_path: Path, received: list[dict[str, Any]]
) -> None:
    answer = build(recipe_of(tmp_path), str(tmp_path / "root"), "local", 1)
    run = open_run(answer.root, answer.run)
    events = recorded(Path(run.folder) / "lineage.jsonl")
    check_events(events)
    plain = [(event["eventType"], event["run"]["runId"], event["job"]["name"]) for event in events]
    assert [(event["eventType"], event["run"]["runId"], event["job"]["name"]) for event in received] == plain
    names = [step.step for step in run.steps]
    pairs = [(state, f"small.{name}") for name in names for state in ("START", "COMPLETE")]
    assert [(state, name) for state, _, name in plain] == [("START", "small"), *pairs, ("COMPLETE", "small")]
    assert len({run_id for _, run_id, _ in plain}) == len(names) + 1
    ingest = next(event for event in events if event["job"]["name"] == "small.ingest" and event["outputs"])
    mine, computed = ingest["inputs"]
    assert (mine["namespace"], mine["name"]) == ("file", str(tmp_path / "rows.jsonl"))
    assert mine["inputFacets"]["inputStatistics"]["rowCount"] == 40
    (source, _) = run.steps[0].parameters["sources"]
    assert mine["facets"]["version"]["datasetVersion"] == source["files"][0][2], "what identifies the file"
    assert computed["namespace"] == "winnow://generated"
    for event in events:
        for output in event["outputs"]:
            assert (Path(output["name"]) / "manifest.json").is_file(), "the folder of the step can be opened"
    (output,) = ingest["outputs"]
    assert {"name": "instruction", "type": "string"} in output["facets"]["schema"]["fields"]
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == run.steps[0].rows_kept
    verify(run)
    EXPORTS["openlineage"](run, str(tmp_path / "out"))
    assert recorded(tmp_path / "out" / "lineage.jsonl") == events
    # A second build makes nothing: the record stays as it is.
    build(recipe_of(tmp_path), str(tmp_path / "root"), "local", 1)
    assert recorded(Path(run.folder) / "lineage.jsonl") == events


def test_a_step_that_fails_has_an_event_with_the_message(tmp_path: Path, received: list[dict[str, Any]]) -> None:
    recipe = recipe_of(tmp_path, stages=({"kind": "length", "min_chars": 100_000, "max_chars": 200_000},))
    with pytest.raises(CheckFailed, match="no row is left"):
        build(recipe, str(tmp_path / "root"), "local", 1)
    ((run, _),) = failures(str(tmp_path / "root"))
    events = recorded(tmp_path / "root" / "failed" / run / "lineage.jsonl")
    check_events(events)
    assert [event["run"]["runId"] for event in received] == [event["run"]["runId"] for event in events]
    last = events[-1]
    assert (last["eventType"], last["job"]["name"]) == ("FAIL", "small")
    assert "no row is left" in last["run"]["facets"]["errorMessage"]["message"]


def test_a_build_goes_on_where_no_receiver_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with console_session(as_json=False):
            answer = build(recipe_of(tmp_path), str(tmp_path / "root"), "local", 1)
    assert open_run(answer.root, answer.run)
    assert "lineage events were not sent" in capfd.readouterr().err
