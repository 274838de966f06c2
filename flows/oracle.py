"""What does a model say of rows, by a rubric? Labels of a sample, written as a table of scores."""

from __future__ import annotations

import functools
import heapq
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from dedup.columns import as_array
from flows.console import MIN_RATE_SECONDS, current_console, show_waiting
from pipelines.errors import RunError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import open_run
from pipelines.ledger.score_tables import ScoreTable, ScoreWriter
from training.inference.endpoint import api_of
from training.inference.language_model import Request
from training.inference.recorded import Budget, CompletionStore, RecordedEndpoint
from training.inference.rubric import VERSION, Label, Rubric

CHUNK_ROWS = 4096
"""Rows that are asked about together."""


class OracleAnswer(BaseModel):
    """A table of labels. `winnow score oracle --json` prints it.

    path: folder of the table. rows: that were asked about. problems: reason -> rows without a label. values: label ->
    rows. sources: source -> rows that were asked about, and the mean of their labels. requests, tokens: what was spent
    on the table, all attempts together. asked: requests that were sent now. reused: the table was there.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    records: str
    path: str
    model: str
    columns: tuple[str, ...]
    rows: int
    problems: dict[str, int]
    values: dict[str, int]
    sources: dict[str, tuple[int, float | None]]
    requests: int
    tokens: int
    asked: int
    seconds: float
    reused: bool


def label(
    run: str,
    endpoint: str,
    model: str,
    rubric: Rubric,
    rows: int,
    name: str = "oracle",
    records: str | None = None,
    budget: Budget | None = None,
    max_tokens: int = 512,
    concurrency: int = 8,
    timeout: float = 120.0,
    root: str = "./winnow-data",
) -> OracleAnswer:
    """Have a model label a sample of a run's rows.

    The sample has the rows with the smallest digests of each source, in proportion to its rows, so a larger sample
    contains a smaller one. What was answered is kept: the same call carries on, and asks nothing twice.

    endpoint, model: as in `RecordedEndpoint`. rows: in the sample. name: of the score; its column is `score_<name>`.
    records: the step of the run whose records are labelled, by default the corpus. max_tokens: of an answer.
    concurrency: most requests at a time. timeout: of one attempt, in seconds.

    Raises: RunError: if there is no such run or step. CheckFailed: if the budget is spent. WinnowError: as `Endpoint`.
    """
    began = time.monotonic()
    recorded = open_run(root, run)
    manifest = recorded.records_of(records)
    _, api = api_of(endpoint)
    settings = {
        "kind": "oracle",
        "version": VERSION,
        "records": manifest.key,
        "model": model,
        "api": api,
        "rubric": rubric._asdict(),
        "rows": rows,
        "max_tokens": max_tokens,
    }
    writer = ScoreWriter(root, name, settings, {"run": recorded.id, "step": manifest.step, "endpoint": endpoint})
    asked = 0

    def make() -> ScoreTable:
        nonlocal asked
        sampled = sample(manifest, rows)
        if not sampled.num_rows:
            raise RunError(f"run {recorded.id}: step {manifest.step} has no rows to label")
        asking = RecordedEndpoint(
            endpoint,
            model,
            CompletionStore(root, model),
            f"{name}-{writer.key}",
            budget or Budget(),
            "--budget-requests or --budget-tokens",
            concurrency,
            timeout,
        )
        table = _finish(writer, sampled, _ask(asking, sampled, rubric, max_tokens), asking, name)
        asked = asking.asked
        return table

    table, reused = writer.made_once(make, functools.partial(show_waiting, f"scores {name}"))
    return OracleAnswer(
        run=recorded.id,
        records=manifest.step,
        path=table.path,
        model=model,
        columns=tuple(table.columns.names),
        rows=table.rows,
        asked=asked,
        seconds=time.monotonic() - began,
        reused=reused,
        **table.facts,
    )


def sample(manifest: Manifest, rows: int) -> pa.Table:
    """At most so many records of a step: of each source its share, those with the smallest digests."""
    keys: list[tuple[str, int, int, int]] = []
    counts: Counter[str] = Counter()
    for number, shard in enumerate(manifest.shards):
        table = storage.read_parquet(shard.path, ["source", "digest"]).combine_chunks()
        digests = _leading(as_array(table["digest"]))
        sources = as_array(table["source"]).dictionary_encode()
        for code, source in enumerate(sources.dictionary.to_pylist()):
            own = np.flatnonzero(np.asarray(sources.indices) == code)
            counts[source] += len(own)
            smallest = own[np.argsort(digests[own], kind="stable")[:rows]]
            keys += [(source, int(digests[row]), number, int(row)) for row in smallest]
    chosen: dict[int, list[int]] = {}
    for source, share in shares(counts, rows).items():
        for _, _, number, row in sorted(key for key in keys if key[0] == source)[:share]:
            chosen.setdefault(number, []).append(row)
    columns = ["id", "source", "condition", "instruction", "response"]
    tables = [
        storage.read_parquet(manifest.shards[number].path, columns, pa.array(sorted(own)))
        for number, own in sorted(chosen.items())
    ]
    return pa.concat_tables(tables).combine_chunks() if tables else pa.table({name: [] for name in columns})


def _leading(digests: pa.Array) -> npt.NDArray[np.uint64]:
    """The first eight bytes of binary(16) values [rows], as numbers."""
    return np.frombuffer(digests.buffers()[1] or b"", ">u8")[2 * digests.offset :: 2][: len(digests)].astype(np.uint64)


def shares(counts: Mapping[str, int], rows: int) -> dict[str, int]:
    """`rows` divided among groups: one for each, the largest first, and the others in proportion (Sainte-Laguë).

    No group gets more than it has, and with more rows none gets fewer.
    """
    given = dict.fromkeys(counts, 0)
    waiting = [(-math.inf, -count, name) for name, count in counts.items() if count]
    heapq.heapify(waiting)
    for _ in range(min(rows, sum(counts.values()))):
        _, _, name = heapq.heappop(waiting)
        given[name] += 1
        if given[name] < counts[name]:
            heapq.heappush(waiting, (-counts[name] / (2 * given[name] + 1), -counts[name], name))
    return given


def read_rubric(text: str) -> str:
    """The text of a rubric: that of a file, or `text` itself.

    Raises: WinnowError: for an empty one, and for what looks like a file that is not there.
    """
    path = Path(text) if len(text) < 4096 and "\n" not in text else None
    if path is not None and path.is_file():
        text = path.read_text(encoding="utf-8")
    elif path is not None and (path.suffix in (".txt", ".md", ".yaml", ".rst") or not {" ", "."} & set(text.strip())):
        raise WinnowError(f"--rubric {text}: no such file; give a file, or the rubric itself in words")
    if not text.strip():
        raise WinnowError("--rubric: it is empty; say in words what a high and what a low score means")
    return text


def _ask(model: RecordedEndpoint, sampled: pa.Table, rubric: Rubric, max_tokens: int) -> list[dict[str, Any]]:
    """For each row its prompt, the answer and the label."""
    began, rows = time.monotonic(), []
    total = sampled.num_rows
    with current_console() as console:
        console.move_bar("label", 0, total)
        for start in range(0, total, CHUNK_ROWS):

            def move(done: int, start: int = start) -> None:
                seconds = time.monotonic() - began
                speed = f"{model.asked / seconds:.1f} requests/s" if seconds > MIN_RATE_SECONDS else ""
                console.move_bar("label", start + done, total, f"{speed}, {model.spent.tokens:,} tokens")

            chunk = sampled.slice(start, CHUNK_ROWS).to_pylist()
            prompts = [rubric.prompt(row["instruction"], row["response"]) for row in chunk]
            requests = [Request(row["condition"], prompt) for row, prompt in zip(chunk, prompts, strict=True)]
            completions = model.generate(requests, max_tokens=max_tokens, on_done=move)
            for row, prompt, (completion,) in zip(chunk, prompts, completions, strict=True):
                said = {"label": rubric.read(completion), "answer": completion.text, "prompt": prompt}
                rows.append({"id": row["id"], "source": row["source"], **said})
    return rows


def _finish(
    writer: ScoreWriter, sampled: pa.Table, rows: Sequence[Mapping[str, Any]], model: RecordedEndpoint, name: str
) -> ScoreTable:
    labels: list[Label] = [row["label"] for row in rows]
    scores = pa.array([label.score for label in labels], pa.float32())
    table = pa.table(
        {
            "id": pa.array([row["id"] for row in rows], pa.string()),
            f"score_{name}": scores,
            "reason": pa.array([label.reason for label in labels], pa.string()),
            "problem": pa.array([label.problem for label in labels], pa.string()),
            "answer": pa.array([row["answer"] for row in rows], pa.string()),
            "prompt": pa.array([row["prompt"] for row in rows], pa.string()),
        }
    )
    values = Counter(label.score for label in labels if label.score is not None)
    sources = {}
    for source in sorted({str(row["source"]) for row in rows}):
        own = scores.filter(pa.array([row["source"] == source for row in rows]))
        sources[source] = (len(own), pc.mean(own).as_py())
    facts = {
        "problems": dict(sorted(Counter(label.problem for label in labels if label.problem).items())),
        "values": {f"{value:g}": values[value] for value in sorted(values)},
        "sources": sources,
        **model.spent._asdict(),
    }
    return writer.finish(table, facts)
