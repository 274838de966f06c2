"""What does `winnow diff` take on large corpora? Two runs of which 3 % of the rows differ, of 1 and 10 million rows.

The steps, their manifests and the columns that are compared are real; the texts are short, since they are not read.
Each comparison is a process of its own. Its memory is its peak, less what it had when everything was imported.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import Outcome, mark
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target, commit
from pipelines.ledger.runs import record
from pipelines.ledger.storage import TableRef, read_parquet, write_parquet
from pipelines.recipe import Recipe
from pipelines.records import record_schema
from pipelines.steps.ingest import INGEST
from pipelines.steps.products import RECORDS
from pipelines.steps.refine import REFINE

ROWS = (1_000_000, 10_000_000)
SHARD = 65_536
SOURCES = ("first", "second", "third", "fourth")
RECIPE = Recipe.model_validate(
    {"name": "large", "sources": [{"name": name, "adapter": "generated_web", "rows": 1} for name in SOURCES]}
)

MEASURED = """
import json, resource, sys, time
from pipelines.audit import diff
from pipelines.ledger.runs import open_run
runs = [open_run(sys.argv[1], name) for name in sys.argv[2:4]]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, wall, cpu = peak(), time.monotonic(), time.process_time()
answer = diff.diff(*runs)
print(json.dumps({
    "wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - cpu, "peak_mb": (peak() - before) / 1e6,
    "changed": sum(group.rows for group in answer.changes),
    "parts": -(-max(run.records.rows_kept for run in runs) // diff.ROWS_AT_ONCE),
}))
"""


def bench(data: Path | None) -> list[dict[str, object]]:
    """One row for each number of rows."""
    lines: list[dict[str, object]] = []
    for rows in ROWS:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as root:
            names = make(root, rows)
            command = [sys.executable, "-c", MEASURED, root, *names]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            measured = json.loads(done.stdout)
        lines.append(
            {
                "rows of each run": f"{rows:,}",
                "rows that changed": f"{measured['changed']:,}",
                "parts": measured["parts"],
                "wall s": f"{measured['wall_s']:.1f}",
                "CPU s": f"{measured['cpu_s']:.1f}",
                "memory MB": f"{measured['peak_mb']:.0f}",
            }
        )
    return lines


def make(root: str, rows: int) -> list[str]:
    """Two recorded runs of so many rows; returns their ids."""
    with LocalEngine() as engine:
        sources = [{"name": name, "files": [], "items": 0, "unread": []} for name in SOURCES]
        starts = list(range(0, rows, SHARD))
        sources[0]["items"] = len(starts)
        run = Run(root, engine)
        step = INGEST.step({"sources": sources, "on_bad_row": "drop"})
        first = run.do(step, lambda context: context.map(functools.partial(_shard, rows), starts))
        made = []
        for share in (1, 2):
            other = Run(root, engine)
            other.results = list(run.results)
            kept = _refine(other, first, share)
            settings = RECIPE.model_dump(mode="json") | {"seed": share}
            made.append(record(root, "large", "", settings, {"corpus": kept}, other.results).id)
        return made


def _shard(rows: int, start: int, target: Target) -> Part:
    numbers = np.arange(start, min(start + SHARD, rows))
    text = pa.array(numbers).cast(pa.string())
    source = pa.array(SOURCES).take(pa.array(numbers % len(SOURCES)))
    digest = np.random.default_rng(start).integers(0, 256, (len(numbers), 16), np.uint8)
    columns = {
        "id": pc.binary_join_element_wise(source, text, "/a_file_of_rows/"),
        "source": source,
        "condition": pa.array(["direct"]).take(pa.array(np.zeros(len(numbers), np.int64))),
        "instruction": text,
        "response": text,
        "digest": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), len(numbers), [None, pa.py_buffer(digest.tobytes())]
        ),
    }
    table = pa.table(columns, schema=record_schema())
    return Part(rows_in=table.num_rows, files={RECORDS: (write_parquet(target.path(), table),)})


def _refine(run: Run, parent: Manifest, share: int) -> Manifest:
    """A step that drops `share` percent of the rows; other ones for another share."""
    step = REFINE.step({"stages": [{"kind": "length", "max_chars": share}]}, (parent.key,))
    return run.do(step, lambda context: context.map(functools.partial(_drop, share), parent.shards), parent)


def _drop(share: int, shard: TableRef, target: Target) -> Part:
    table = read_parquet(shard.path)
    numbers = np.random.default_rng(share).random(table.num_rows) < share / 100
    dropped = mark(table.filter(pa.array(numbers)), "length", "too_long", ["{}"] * int(numbers.sum()))
    return commit(Outcome(table.filter(pa.array(~numbers)), dropped), table, target)
