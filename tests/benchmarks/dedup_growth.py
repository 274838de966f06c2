"""Both duplicate steps at 0.5, 1, 2 and 4 GB of text: MB/s per core and a worker's peak memory, as the text grows.

Takes about eight minutes and 10 GB of disk. The text is T0/P3 again and again, each time in another alphabet: a copy
has its letters exchanged by a permutation of its own (vowels for vowels, consonants for consonants). So a copy is as
large, as repetitive and as templated as T0/P3, with rows of the same lengths, and unlike all other copies: the share of
duplicates stays what it is while the corpus grows. Each size is measured in a process of its own, the one worker: CPU
seconds are all that the process took. Its memory is looked at from outside, 100 times a second, and told apart: what it
has allocated (anonymous), which is what can run out, and the pages of files that it has mapped, which the system takes
back when it needs them and which grow with the files as long as nobody needs the memory.

WINNOW_GROWTH=0.5,1 in the environment measures those sizes only.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.exact import digest128
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine, one_core
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Progress, Run, Target
from pipelines.recipe import ExactDuplicates, NearDuplicates
from pipelines.records import RECORD
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from pipelines.steps.duplicates.near import drop_near_duplicates
from tests.benchmarks.dedup import texts
from tests.steps import keep, plain_step

SIZES = (0.5, 1.0, 2.0, 4.0)
"""GB of text."""

LETTERS = ("aeiou", "bcdfghjklmnpqrstvwxyz")


def bench(data: Path | None) -> list[dict[str, object]]:
    """Rows of what was measured; the columns named by phases are CPU milliseconds per MB of text."""
    asked = os.environ.get("WINNOW_GROWTH")
    rows: list[dict[str, object]] = []
    first = 0.0
    for size in [float(word) for word in asked.split(",")] if asked else SIZES:
        with tempfile.TemporaryDirectory() as root:
            _apart(_given, root, data, size)
            row = _apart(_measure, root, data, size)
        first = first or float(str(row["MB/s per core"]))
        row["to the first"] = float(str(row["MB/s per core"])) / first
        rows.append(row)
        print(row, flush=True)
    return rows


def _apart(work: object, *arguments: object) -> dict[str, object]:
    """`work` in a fresh process, so that its memory is its own; with what it held, if it says when it did what."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (worker,) = multiprocessing.active_children()
        with _watched(int(worker.pid or 0)) as seen:
            answer: dict[str, object] = pool.apply(_called, (work, *arguments))
    times = answer.pop("times", None)
    if isinstance(times, list):
        answer.update(_peaks(np.array(seen), times))
    return answer


@contextmanager
def _watched(process: int) -> Iterator[list[tuple[float, int, int]]]:
    """While the block runs: when, and how many MB of its own and of mapped files a process held then."""
    seen: list[tuple[float, int, int]] = []
    status, stop = Path(f"/proc/{process}/status"), threading.Event()

    def look() -> None:
        while not stop.wait(0.01):
            held = {name: int(size) // 1024 for name, size in re.findall(r"Rss(\w+):\s+(\d+) kB", status.read_text())}
            if held:  # a process that is ending holds nothing
                seen.append((time.monotonic(), held["Anon"], held["File"] + held["Shmem"]))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def _peaks(seen: npt.NDArray[np.float64], times: list[tuple[float, str]]) -> dict[str, object]:
    """The most that was held at a time. times: when each task ended, after the first, at which the measurement began,
    and what phase it was of."""
    ends = np.array([end for end, _ in times])
    seen = seen[(seen[:, 0] > ends[0]) & (seen[:, 0] <= ends[-1])]
    phase = np.array([name for _, name in times])[np.searchsorted(ends, seen[:, 0])]
    most = int(seen[:, 1].argmax())
    return {
        "anonymous MB, peak": float(seen[most, 1]),
        "in": str(phase[most]),
        "mapped MB, peak": float(seen[:, 2].max()),
    }


def _called(work: object, *arguments: object) -> dict[str, object]:
    one_core()
    assert callable(work)
    return dict(work(*arguments))


def _given(root: str, data: Path | None, size: float) -> dict[str, object]:
    """The text as records in shards of half a copy of T0/P3, about 29 MB each."""
    records(Run(root, LocalEngine(1)), data, size)
    return {}


def records(run: Run, data: Path | None, size: float) -> Manifest:
    """`size` GB of text, made or found under the run's root."""

    def work(context):  # type: ignore[no-untyped-def]
        instruction, response = texts(data)
        half = sum(int(pc.sum(pc.binary_length(column)).as_py()) for column in (instruction, response)) / 2e9
        kernel = functools.partial(_copy, instruction, response)
        return context.map(kernel, list(range(max(1, round(size / half)))))

    return run.do(plain_step("given", {"size": size}), work)


def _copy(instruction: pa.StringArray, response: pa.StringArray, number: int, target: Target) -> Part:
    count = len(instruction)
    first, after = (0, count // 2) if number % 2 == 0 else (count // 2, count)
    letters = _alphabet(number // 2)
    columns = [_spelt(column.slice(first, after - first), letters) for column in (instruction, response)]
    ids = pa.array([f"t0/{number // 2}/{row}" for row in range(first, after)])
    fixed = [pa.array([value] * (after - first)) for value in ("t0", "direct")]
    table = pa.table([ids, *fixed, *columns, digest128(*columns)], schema=RECORD)
    return keep(table, target)


def _alphabet(copy: int) -> npt.NDArray[np.uint8]:
    """What each byte becomes in a copy, uint8 [256]; the first copy is the text itself."""
    table = np.arange(256, dtype=np.uint8)
    rng = np.random.default_rng(copy)
    for letters in LETTERS if copy else ():
        for cased in (letters, letters.upper()):
            rng = np.random.default_rng([copy, len(letters)])
            codes = np.frombuffer(cased.encode(), np.uint8)
            table[codes] = rng.permutation(codes)
    return table


def _spelt(column: pa.StringArray, letters: npt.NDArray[np.uint8]) -> pa.StringArray:
    compact = pa.concat_arrays([column.slice(0, 0), column]) if column.offset == 0 else pa.array(column.to_pylist())
    _, offsets, content = compact.buffers()
    return pa.StringArray.from_buffers(len(compact), offsets, pa.py_buffer(letters[np.frombuffer(content, np.uint8)]))


def _measure(root: str, data: Path | None, size: float) -> dict[str, object]:
    spent: dict[str, float] = {}
    times: list[tuple[float, str]] = []
    last = time.process_time()

    def watch(progress: Progress) -> None:
        nonlocal last
        now = time.process_time()
        step = "exact" if progress.step.startswith("exact") else "near"
        name = f"{step} {progress.phase.split('-')[0]}"
        spent[name] = spent.get(name, 0.0) + now - last
        times.append((time.monotonic(), name))
        last = now

    settings = NearDuplicates(preset="fineweb")
    with tempfile.TemporaryDirectory() as warm:  # kernels are loaded before the clock starts
        run = Run(warm, LocalEngine(1))
        drop_near_duplicates(
            run, drop_exact_duplicates(run, records(run, data, 0.01), ExactDuplicates(), {}), settings, {}
        )
    run = Run(root, LocalEngine(1), watch=watch)
    given = records(run, data, size)
    megabytes = sum(_text_bytes(shard.path) for shard in given.shards) / 1e6
    times[:] = [(time.monotonic(), "")]
    spent.clear()
    began = last = time.process_time()
    unique = drop_exact_duplicates(run, given, ExactDuplicates(), {})
    made = drop_near_duplicates(run, unique, settings, {})
    seconds = time.process_time() - began
    dropped = unique.rows_dropped + made.rows_dropped
    return {
        "GB": megabytes / 1e3,
        "rows": f"{given.rows_kept:,}",
        "dropped": f"{100 * dropped / given.rows_kept:.2f} %",
        "MB/s per core": megabytes / seconds,
        "to the first": 1.0,
        "times": times,
        **{name: 1e3 * value / megabytes for name, value in spent.items()},
    }


def _text_bytes(path: str) -> int:
    texts = storage.read_parquet(path, ["instruction", "response"])
    return sum(int(pc.sum(pc.binary_length(column)).as_py()) for column in texts.columns)
