"""Band rows that share a key brought together: files by range between maps, or Ray Data's own shuffle.

The same band rows, made in the same tasks, are grouped by the same kernel under the same Ray, each way in a process and
a Ray of its own: by the phases of `drop_near_duplicates` through the RayEngine (what is written, sorted by key, is read
by range), by `Dataset.sort`, and by `Dataset.repartition` on the key's hash. Files are what a step resumes from, and
they are written, digested and checked; Ray's rows stay in its object store, which is given 2 GiB, and its buckets are
counted and forgotten.

CPU seconds are those of all processes: the driver, the workers, the store and the scheduler. Memory is what they have
allocated together beyond what they had before the first row, and the store's pages.
"""

from __future__ import annotations

import functools
import itertools
import logging
import multiprocessing
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import ray

from dedup.buckets import group_by_key
from dedup.sorting import argsort
from flows.ray import engine as ray_engine
from pipelines.ledger import storage
from pipelines.ledger.manifest import Part, part
from pipelines.ledger.run import Run, StepContext, Target
from pipelines.ledger.step import StepType
from pipelines.steps.duplicates.buckets import group_range
from pipelines.steps.duplicates.ranges import TASK_SIZES, key_ranges
from pipelines.steps.duplicates.shards import ShardFiles

SHARDS = (2, 20)
"""Sizes, in shards of half a million band rows. What a way costs whatever the size is told from what a row costs."""

BANDS, SHARD = 14, 500_000
WORKERS = 2
STORE_BYTES = 2 << 30


def bench(data: Path | None) -> list[dict[str, object]]:
    """Rows of what was measured. The ways must find the same buckets."""
    rows: list[dict[str, object]] = []
    found = []
    for way in (_by_files, _by_sort, _by_hash):
        # A process that is not a daemon, as those of a pool are: it has children, those of its Ray.
        context = multiprocessing.get_context("spawn")
        with tempfile.TemporaryDirectory() as folder:
            answers = context.SimpleQueue()
            process = context.Process(target=_measure, args=(way, folder, answers))
            process.start()
            process.join()
            assert process.exitcode == 0
            members, seen = answers.get()
        found.append(members)
        each = 1e6 / SHARD / (SHARDS[-1] - SHARDS[0])
        for shards, one in zip(SHARDS, seen, strict=True):
            rows.append({"how": (way.__doc__ or "").strip("."), "band rows": f"{shards * SHARD:,}", **one})
        for unit in ("CPU s", "wall s"):
            rows[-1][f"{unit} a million more"] = each * (seen[-1][unit] - seen[0][unit])
    assert found[0] == found[1] == found[2], found
    return rows


def _measure(way: Callable[[str, int], int], folder: str, answers: multiprocessing.SimpleQueue) -> None:  # type: ignore[type-arg]
    logging.disable(logging.WARNING)  # Ray Data tells of every plan
    ray_engine.OBJECT_STORE_BYTES = STORE_BYTES
    members, rows = [], []
    with ray_engine.ray_session(WORKERS):
        way(str(Path(folder) / "warm"), WORKERS)  # kernels and libraries are loaded before the clock starts
        for shards in SHARDS:
            with _watched() as seen:
                members.append(way(str(Path(folder) / str(shards)), shards))
            rows.append(seen)
    answers.put((members, rows))


@contextmanager
def _watched() -> Iterator[dict[str, float]]:
    """CPU and wall seconds of the block, and the most memory of this process and its descendants."""
    seen: dict[str, float] = {}
    cpu: dict[int, float] = {}
    store = []
    stop = threading.Event()

    def look() -> int:
        """Note what every process has used so far; the bytes that they hold."""
        held = shared = 0
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            try:
                times, status = process.cpu_times(), Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                continue  # what it used until the last look is known
            cpu[process.pid] = times.user + times.system
            pages = dict(re.findall(r"Rss(\w+):\s+(\d+) kB", status))
            held += 1024 * int(pages.get("Anon", 0))
            shared = max(shared, 1024 * int(pages.get("Shmem", 0)))
        store.append(shared)
        return held

    before = look()
    used, began, most = sum(cpu.values()), time.perf_counter(), [before]
    looking: list[float] = []

    def watch() -> None:
        while not stop.wait(0.1):
            most.append(look())
        looking.append(time.thread_time())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        seen["wall s"] = time.perf_counter() - began
        stop.set()
        thread.join()
        most.append(look())
        seen["CPU s"] = sum(cpu.values()) - used - looking[0]
        seen["allocated MB, peak"] = (max(most) - before) / 1e6
        seen["store MB, peak"] = max(store) / 1e6


def _rows(shard: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """A shard's band rows, 16 bytes each: keys uint64, numbers of the rows in the shard uint32 and their codes uint32.
    About 45 % of the records have a family, whose members lie in any shard and share two thirds of their bands."""
    rng = np.random.default_rng(shard)
    count = SHARD // BANDS + 1
    record = np.arange(count, dtype=np.uint64) + np.uint64(shard * count)
    family = np.where(rng.random(count) < 0.45, rng.integers(0, count, count).astype(np.uint64), record + MANY)
    own = rng.random((count, BANDS)) < 0.33
    source = np.where(own, record[:, None] + np.uint64(2) * MANY, family[:, None])
    mixed = (source * np.uint64(BANDS) + np.arange(BANDS, dtype=np.uint64)) * MULTIPLIER
    mixed = (mixed ^ mixed >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (mixed ^ mixed >> np.uint64(32)).reshape(-1)[:SHARD]
    numbers = np.repeat(np.arange(count, dtype=np.uint32), BANDS)[:SHARD]
    return keys, numbers, (family & np.uint64(0xFFFFFFFF)).astype(np.uint32)[numbers]


MANY = np.uint64(1 << 40)
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def _by_files(folder: str, shards: int) -> int:
    """files by range between maps."""
    run = Run(folder, ray_engine.RayEngine(WORKERS))

    def work(context: StepContext) -> list[Part]:
        files = context.map(_write, list(range(shards)), "signatures")
        starts = tuple(shard * SHARD for shard in range(shards + 1))
        keys = tuple(part.table("keys") for part in files)
        written = ShardFiles(keys, tuple(itertools.pairwise(starts)), (), starts, 0)
        return context.map(functools.partial(group_range, written), key_ranges(starts[-1], TASK_SIZES.keys))

    made = run.do(StepType(name="shuffle", products={"buckets": "made for a benchmark"}).step({}), work)
    return made.counts["members"]


def _write(shard: int, target: Target) -> Part:
    keys, numbers, codes = _rows(shard)
    by_key = argsort(keys)
    table = pa.table({"key": keys[by_key], "row": numbers[by_key], "code": codes[by_key]})
    return part(keys=storage.write_arrow(target.path("keys", ".arrow"), table))


def _by_sort(folder: str, shards: int) -> int:
    """Ray Data: sort."""
    return _members(_dataset(shards).sort("key"))


def _by_hash(folder: str, shards: int) -> int:
    """Ray Data: repartition by the key's hash."""
    return _members(_dataset(shards).repartition(max(WORKERS, shards // 2), keys=["key"]))


def _dataset(shards: int) -> ray.data.Dataset:
    ray.data.DataContext.get_current().enable_progress_bars = False
    made = ray.data.range(shards, override_num_blocks=shards)
    return made.map_batches(_made, batch_format="pyarrow", batch_size=None)


def _made(numbers: pa.Table) -> pa.Table:
    tables = []
    for shard in numbers["id"].to_pylist():
        keys, rows, codes = _rows(shard)
        tables.append(pa.table({"key": keys, "row": rows.astype(np.int64) + shard * SHARD, "code": codes}))
    return pa.concat_tables(tables)


def _members(shuffled: ray.data.Dataset) -> int:
    grouped = shuffled.map_batches(_grouped, batch_format="pyarrow", batch_size=None)
    return sum(row["members"] for row in grouped.take_all())


def _grouped(batch: pa.Table) -> pa.Table:
    keys, rows, codes = (batch[name].to_numpy() for name in ("key", "row", "code"))
    groups, _ = group_by_key(keys, rows, codes)
    return pa.table({"members": [len(groups.members)]})
