"""What does it cost to read one large file, and many small ones? `python -m tests.benchmarks ingest`

Each input is ingested file by file, as one task each, and divided as Winnow does, in processes of their own. Beside it,
in this process: what the bytes cost at least, by reading the Parquet file and writing its text as zstd Parquet.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.formats.read import read, text_columns
from pipelines.ledger import storage
from pipelines.recipe import Recipe
from pipelines.records import conform
from pipelines.steps.source_files import raw_rows

JSONL_BYTES, PARQUET_BYTES, SMALL_FILES, ROWS_OF_SMALL = 500_000_000, 300_000_000, 5_000, 5

SCRIPT = """
import json, resource, sys, time
from pipelines.formats import span
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.recipe import Recipe
from pipelines.steps import ingest as ingesting

def main(path, root, divided, workers):
    if not divided:
        span.SPAN_BYTES, ingesting.GROUP_FILES = 1 << 60, 1 << 60
    columns = {"instruction": "q", "response": "a"}
    source = {"name": "s", "path": path, "columns": columns, "condition": "direct"}
    recipe = Recipe.model_validate({"name": "bench", "sources": [source]})
    begun = time.monotonic()
    with LocalEngine(workers) as engine:
        manifest = ingesting.ingest(Run(root, engine), recipe)
    wall = time.monotonic() - begun
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in usage)
    print(json.dumps([wall, cpu, len(manifest.parts), len(manifest.all_files), manifest.rows_kept]))

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "divided", int(sys.argv[4]))
"""


def bench(data: Path | None) -> dict[str, list[dict[str, object]]]:
    """Wall and CPU seconds of each way to ingest each input; and MB of text a second and core of each part of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = {
            f"one JSONL file, {JSONL_BYTES / 1e6:.0f} MB": _jsonl(folder / "large.jsonl"),
            f"one Parquet file, {PARQUET_BYTES / 1e6:.0f} MB": _parquet(folder / "large.parquet"),
            f"{SMALL_FILES:,} files of {ROWS_OF_SMALL} rows": _small(folder / "small"),
        }
        ways = []
        for what, path in inputs.items():
            for how, workers in (("file by file", 2), ("divided", 1), ("divided", 2)):
                ways.append({"input": what, "how": how, "workers": workers} | _ingest(folder, path, how, workers))
        return {"Ingest": ways, "Parts of reading the Parquet file, one core": _parts(folder / "large.parquet", folder)}


def _ingest(folder: Path, path: Path, how: str, workers: int) -> dict[str, object]:
    root = tempfile.mkdtemp(dir=folder)
    script = folder / "ingest_one.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(path), root, how, str(workers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wall, cpu, parts, files, rows = json.loads(done.stdout.splitlines()[-1])
    return {"wall s": round(wall, 1), "CPU s": round(cpu, 1), "tasks": parts, "files": files, "rows": rows}


def _parts(path: Path, folder: Path) -> list[dict[str, object]]:
    columns = {"instruction": "q", "response": "a"}
    source = {"name": "s", "path": str(path), "columns": columns, "condition": "direct"}
    (spec,) = Recipe.model_validate({"name": "bench", "sources": [source]}).sources
    text = sum(table.nbytes for table in (pq.read_table(path, use_threads=False),))
    records = [conform(table, "s", "f").kept for table in raw_rows(spec, str(path))]

    def write() -> None:
        table = pa.concat_tables(records)
        for start in range(0, table.num_rows, 65_536):
            storage.write_parquet(str(folder / "out.parquet"), table.slice(start, 65_536))

    parts: dict[str, Callable[[], object]] = {
        "decode Parquet (pyarrow alone)": lambda: [
            batch.num_rows for batch in pq.ParquetFile(path).iter_batches(8_192, use_threads=False)
        ],
        "read as rows (formats.read)": lambda: [table.num_rows for table in read(str(path), text_columns("q", "a"))],
        "read as records (and conform: ids, digests)": lambda: [
            conform(table, "s", "f").kept.num_rows for table in raw_rows(spec, str(path))
        ],
        "write records as zstd Parquet": write,
    }
    return [{"part": name, "MB of text / s": round(text / 1e6 / _cpu(part))} for name, part in parts.items()]


def _cpu(part: Callable[[], object]) -> float:
    """The least CPU seconds of three runs."""
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        part()
        seconds.append(time.process_time() - begun)
    return min(seconds)


def _texts(random: np.random.Generator, count: int) -> list[str]:
    """Texts of some 340 characters, of words as frequent as in a language."""
    words = np.array([f"{word:x}" for word in random.integers(0, 1 << 32, 30_000)])
    lengths = random.integers(10, 80, count)
    drawn = words[np.minimum(random.zipf(1.3, int(lengths.sum())), len(words)) - 1]
    return [" ".join(part) for part in np.split(drawn, np.cumsum(lengths)[:-1])]


def _lines(texts: list[str], start: int) -> str:
    pairs = zip(texts[::2], texts[1::2], strict=True)
    return "".join(json.dumps({"q": f"{start + i} {q}", "a": a}) + "\n" for i, (q, a) in enumerate(pairs))


def _jsonl(path: Path) -> Path:
    texts = _texts(np.random.default_rng(0), 100_000)
    with path.open("w") as file:
        start = 0
        while file.tell() < JSONL_BYTES:
            file.write(_lines(texts, start))
            start += len(texts) // 2
    return path


def _parquet(path: Path) -> Path:
    random, start = np.random.default_rng(1), 0
    schema = pa.schema([pa.field("q", pa.string()), pa.field("a", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        while path.stat().st_size < PARQUET_BYTES:
            texts = _texts(random, 100_000)
            questions = [f"{start + i} {text}" for i, text in enumerate(texts[::2])]
            writer.write_table(pa.table({"q": questions, "a": texts[1::2]}, schema=schema))
            start += len(questions)
    return path


def _small(folder: Path) -> Path:
    folder.mkdir()
    texts = _texts(np.random.default_rng(2), SMALL_FILES * ROWS_OF_SMALL * 2)
    for number in range(SMALL_FILES):
        own = texts[number * ROWS_OF_SMALL * 2 : (number + 1) * ROWS_OF_SMALL * 2]
        (folder / f"f{number:05d}.jsonl").write_text(_lines(own, 0))
    return folder
