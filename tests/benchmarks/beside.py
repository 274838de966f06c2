"""What commands and readers cost beside earlier commits, in CPU seconds: the least, and in brackets the median, of
several processes in turn.

Commands work on a root with the demo, which each checkout has built itself. Readers read 60 MB of text from a file of
each format, several times in a process, of which the least counts. `WINNOW_BEFORE` names the earlier commit of the
commands, `WINNOW_READERS_BEFORE` that of the readers, `WINNOW_ROUNDS` the number of processes of each.
"""

from __future__ import annotations

import csv
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.earlier import ROOT, checkout

BEFORE = os.environ.get("WINNOW_BEFORE", "6c223d9")
"""Main before the checks of integrity."""
READERS_BEFORE = os.environ.get("WINNOW_READERS_BEFORE", "9c04890")
"""The last commit with the readers as they were before these checks."""
ROUNDS = int(os.environ.get("WINNOW_ROUNDS", "9"))

COMMANDS = (
    "--help",
    "runs --root ROOT",
    "check demo",
    "plan demo",
    "verify --root ROOT",
    "why generated_arithmetic/generated/3 --root ROOT",
)
TEXT_BYTES = 60_000_000

READ = """
import sys, time
from pipelines.formats import pairs
from pipelines.formats.read import Spelling
from pipelines.ledger.engine import one_core

one_core()

def read():
    columns = {"instruction": "question", "response": "answer"}
    return sum(table.num_rows for table in pairs.read_pairs(sys.argv[1], columns, "direct", Spelling()))

rows, seconds = read(), []
for _ in range(3):
    begun = time.process_time()
    assert read() == rows
    seconds.append(time.process_time() - begun)
print(min(seconds))
"""


def bench(_: Path | None) -> dict[str, list[dict[str, object]]]:
    """Rows by heading."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = _files(folder)
        with checkout(BEFORE, folder) as before:
            sides = {"before": before, "after": ROOT}
            for side, place in sides.items():
                _run(place, ["build", "demo", "--root", str(folder / side), "--engine", "local", "--workers", "1"])
            commands = [
                _row(command, sides, lambda place, side, c=command: _command(place, c, folder / side))
                for command in COMMANDS
            ]
        with checkout(READERS_BEFORE, folder) as before:
            sides = {"before": before, "after": ROOT}
            readers = [_row(file.suffix[1:], sides, lambda place, _, f=file: _read(place, f)) for file in files]
    return {"Commands": commands, "Readers": readers}


def _row(what: str, sides: dict[str, Path], measure: Callable[[Path, str], float]) -> dict[str, object]:
    """Measure both sides in turn, after one process of each that does not count: it compiles kernels."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(ROUNDS + 1):
        for side in sides if number % 2 else reversed(sides):
            taken = measure(sides[side], side)
            if number:
                seconds[side].append(taken)
    before, after = seconds.values()
    least, middle = min(after) / min(before), statistics.median(after) / statistics.median(before)
    return {
        "what": what,
        "before": f"{min(before):.3f} ({statistics.median(before):.3f})",
        "after": f"{min(after):.3f} ({statistics.median(after):.3f})",
        "after to before": f"{least:.2f} ({middle:.2f})",
    }


def _run(place: Path, words: list[str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "flows.cli.main", *words],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(place)},
        check=True,
        capture_output=True,
    )


def _command(place: Path, command: str, root: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(place, [str(root) if word == "ROOT" else word for word in command.split()])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _read(place: Path, file: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", READ, file],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(place)},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def _files(folder: Path) -> list[Path]:
    """A file of each format with the same rows."""
    drawn = random.Random(1)
    words = ["".join(drawn.choices("etaoinshrdlu", k=drawn.randint(1, 9))) for _ in range(3000)]
    rows: list[dict[str, str]] = []
    size = 0
    while size < TEXT_BYTES:
        question, answer = (" ".join(drawn.choices(words, k=drawn.randint(5, most))) for most in (120, 200))
        answer += ', "quoted" é' if drawn.random() < 0.1 else "."
        rows.append({"question": f"{question}?", "answer": answer})
        size += len(question) + len(answer)
    table = pa.Table.from_pylist(rows)
    paths = {suffix: folder / f"rows.{suffix}" for suffix in ("jsonl", "json", "csv", "tsv", "parquet", "arrow")}
    paths["jsonl"].write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    paths["json"].write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    for suffix, delimiter in (("csv", ","), ("tsv", "\t")):
        with paths[suffix].open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["question", "answer"], delimiter=delimiter, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    pq.write_table(table, paths["parquet"])
    with pa.OSFile(str(paths["arrow"]), "wb") as out, pa.ipc.new_file(out, table.schema) as stream:
        stream.write_table(table, max_chunksize=10_000)
    return list(paths.values())
