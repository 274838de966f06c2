"""Both duplicate steps at 0.5, 1, 2 and 4 GB of text: MB/s per core and a worker's peak memory, as the text grows.

Takes about eight minutes and 10 GB of disk. The text is T0/P3 again and again, each time in another alphabet: a copy
has its letters exchanged by a permutation of its own (vowels for vowels, consonants for consonants). So a copy is as
large, as repetitive and as templated as T0/P3, with rows of the same lengths, and unlike all other copies: the share of
duplicates stays what it is while the corpus grows. Each size is measured in a process of its own, the one worker: CPU
seconds are all that the process took, memory is the most it ever held, with the pages of mapped files.

WINNOW_GROWTH=0.5,1 in the environment measures those sizes only.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.exact import digest128
from pipelines import storage
from pipelines.deduplicate import drop_exact_duplicates, drop_near_duplicates
from pipelines.engine import LocalEngine, one_core
from pipelines.manifest import Manifest, Part, Step
from pipelines.recipe import ExactDuplicates, NearDuplicates
from pipelines.records import RECORD
from pipelines.run import Progress, Run, Target
from tests.benchmarks.dedup import texts

SIZES = (0.5, 1.0, 2.0, 4.0)
"""GB of text."""

LETTERS = ("aeiou", "bcdfghjklmnpqrstvwxyz")


def bench(data: Path | None) -> list[dict[str, object]]:
    """Rows of what was measured; the last columns are CPU milliseconds per MB of text, phase by phase."""
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
    """`work` in a fresh process, so that its memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        answer: dict[str, object] = pool.apply(_called, (work, *arguments))
    return answer


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

    def work(desk):  # type: ignore[no-untyped-def]
        instruction, response = texts(data)
        half = sum(int(pc.sum(pc.binary_length(column)).as_py()) for column in (instruction, response)) / 2e9
        kernel = functools.partial(_copy, instruction, response)
        return desk.map(kernel, list(range(max(1, round(size / half)))))

    return run.do(Step("given", 1, {"size": size}), work)


def _copy(instruction: pa.StringArray, response: pa.StringArray, number: int, target: Target) -> Part:
    count = len(instruction)
    first, after = (0, count // 2) if number % 2 == 0 else (count // 2, count)
    letters = _alphabet(number // 2)
    columns = [_spelt(column.slice(first, after - first), letters) for column in (instruction, response)]
    ids = pa.array([f"t0/{number // 2}/{row}" for row in range(first, after)])
    fixed = [pa.array([value] * (after - first)) for value in ("t0", "direct")]
    table = pa.table([ids, *fixed, *columns, digest128(*columns)], schema=RECORD)
    size = sum(int(pc.sum(pc.binary_length(column)).as_py()) for column in columns)
    return Part(shards=(storage.write_parquet(target.path(), table),), counts={"bytes": size})


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
    last = time.process_time()

    def watch(progress: Progress) -> None:
        nonlocal last
        now = time.process_time()
        step = "exact" if progress.step.startswith("exact") else "near"
        name = f"{step} {progress.phase.split('-')[0]}"
        spent[name] = spent.get(name, 0.0) + now - last
        last = now

    settings = NearDuplicates(preset="fineweb")
    with tempfile.TemporaryDirectory() as warm:  # kernels are loaded before the clock starts
        run = Run(warm, LocalEngine(1))
        drop_near_duplicates(
            run, drop_exact_duplicates(run, records(run, data, 0.01), ExactDuplicates(), {}), settings, {}
        )
    run = Run(root, LocalEngine(1), watch=watch)
    given = records(run, data, size)
    megabytes = given.counts["bytes"] / 1e6
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
        "peak MB of the worker": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024),
        **{name: 1e3 * value / megabytes for name, value in spent.items() if not name.startswith("near reused")},
    }
