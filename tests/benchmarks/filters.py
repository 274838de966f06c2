"""Filters and thinking-strip: MB of text per second of CPU, stage by stage and all together.

The text is T0/P3 (55,185 prompts and completions, 62 MB, most of it in the prompts), so the stages that judge the
response alone by default are measured on both fields as well. Traces with thinking have a benchmark of their own.
"""

from __future__ import annotations

import gzip
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from filters.catalogue import STAGES
from filters.stage import Filter, Stage, Transform, apply
from pipelines.records import RAW, conform

REPEATS = 3


def bench(data: Path | None) -> list[dict[str, object]]:
    """One row a stage: MB/s with its defaults, MB/s on both fields, and the share of rows it drops."""
    raw = _prompts(data)
    records = conform(raw, "t0", "t0").kept
    size = _size(records)
    rows: list[dict[str, object]] = [_row("conform", size, lambda: conform(raw, "t0", "t0"), None)]
    for kind, stage in STAGES.items():
        row = _row(kind, size, _work(stage(), records), _work(_on_both(stage()), records))
        row["dropped %"] = 100 * apply([stage()], records).dropped.num_rows / records.num_rows
        rows.append(row)
    default: list[Stage] = [stage() for stage in STAGES.values()]
    both = [_on_both(stage) for stage in default]
    rows.append(
        _row(
            "conform and all stages",
            size,
            lambda: apply(default, conform(raw, "t0", "t0").kept),
            lambda: apply(both, conform(raw, "t0", "t0").kept),
        )
    )
    return rows


def _row(name: str, size: int, default: Callable[[], object], both: Callable[[], object] | None) -> dict[str, object]:
    return {
        "stage": name,
        "MB/s": size / 1e6 / cpu_seconds(default),
        "MB/s on both fields": "" if both is None else size / 1e6 / cpu_seconds(both),
    }


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one run, the median of several after one that compiles and loads."""
    work()
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def _work(stage: Stage, records: pa.Table) -> Callable[[], object]:
    if isinstance(stage, Transform):
        return lambda: stage.rewrite(records)
    assert isinstance(stage, Filter)
    # A table of its own, so that the joined documents are made anew, as they are once for every table.
    return lambda: stage.judge(records.select(records.column_names))


def _on_both(stage: Stage) -> Stage:
    return stage.model_copy(update={"on": "both"}) if "on" in type(stage).model_fields else stage


def _size(records: pa.Table) -> int:
    return sum(records[name].nbytes for name in ("instruction", "response"))


def _raw(instructions: list[str], responses: list[str]) -> pa.Table:
    rows = len(instructions)
    columns = [
        pa.array(range(rows), pa.int64()),
        pa.nulls(rows, pa.string()),
        pa.array(["direct"] * rows, pa.string()),
        pa.array(instructions, pa.string()),
        pa.array(responses, pa.string()),
        pa.nulls(rows, pa.string()),
    ]
    return pa.table(columns, schema=RAW)


def _prompts(data: Path | None) -> pa.Table:
    if data is None:
        return _raw(*_generated(20_000, ""))
    with gzip.open(data / "sources" / "t0_p3_50k.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    completions = [row["completion"].removesuffix("<|endoftext|>") for row in rows]
    return _raw([row["prompt"] for row in rows], completions)


def _generated(rows: int, frame: str) -> tuple[list[str], list[str]]:
    """Sentences of words drawn with a seed, as frequent as words are (Zipf): instructions, and responses in `frame`."""
    random = np.random.Generator(np.random.PCG64(0))
    words = ["".join(random.choice(list("etaoinshrdlu"), size)) for size in random.integers(2, 11, 5_000)]
    drawn = np.minimum(random.zipf(1.3, (rows, 200)), len(words)) - 1
    texts = [" ".join(words[i] for i in row) + "." for row in drawn]
    if frame:
        return ["What is asked?"] * rows, [frame.format(text) for text in texts]
    return texts, [" ".join(words[i] for i in row[:8]) for row in drawn]
