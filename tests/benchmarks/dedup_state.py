"""What clustering holds: 20 million synthetic band rows through bucketing and the tree of forests, and 594 M records.

A band row is one band key of one record: 20 M of them are 1.43 M records of `fineweb`. Families of 2 to 9 records share
about two thirds of their bands, and 45 % of the records have a family, as of T0/P3. Pairs are taken as verified, since
it is their clustering that is measured. What a whole corpus needs is what these need times its records: bucketing is
linear by ranges, and the last forest is two numbers a duplicated row.
"""

from __future__ import annotations

import functools
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dedup.buckets import group_by_key
from dedup.forests import Forest, merge_forests
from pipelines.steps.duplicates.components import FORESTS_PER_MERGE
from pipelines.steps.duplicates.ranges import TASK_SIZES

Answer = TypeVar("Answer")

BAND_ROWS, BANDS = 20_000_000, 14
RECORDS = 594_000_000


def bench(data: Path | None) -> list[dict[str, object]]:
    """Rows of what was measured, and what it comes to for the raw corpus."""
    # The last merge in a process of its own, or it would take the memory that others have left.
    with (
        multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool,
        tempfile.TemporaryDirectory() as folder,
    ):
        one = pool.apply(_cluster, (folder,))
        one.update(pool.apply(_last_merge, (folder,)))
    times = RECORDS / one["records"]
    rows = [
        _row("band rows", one["band rows"], times, "rows"),
        _row("records", one["records"], times, "rows"),
        _row("records with a twin", one["duplicated"], times, "rows"),
        _row("key files: 16 bytes a band row", 16 * one["band rows"] / 1e9, times, "GB"),
        _row("bucketing, CPU", one["bucketing"], times, "s"),
        _row("bucketing, peak memory of a task", one["bucket peak"] / 1e6, 1, "MB"),
        _row("merging forests, CPU", one["merging"] + one["last merge"], times, "s"),
        _row("the last forest on disk", one["forest bytes"] / 1e9, times, "GB"),
        _row("  per duplicated row", one["forest bytes"] / one["duplicated"], 1, "bytes"),
        _row("memory that the last merge adds", one["merge peak"] / 1e9, times, "GB"),
        _row("  per duplicated row", one["merge peak"] / one["duplicated"], 1, "bytes"),
    ]
    return rows


def _row(what: str, value: float, times: float, unit: str) -> dict[str, object]:
    return {"what": what, "20 M band rows": value, "594 M records": value * times, "unit": unit}


def _cost(work: Callable[[], Answer]) -> tuple[Answer, float, int]:
    """What `work` answers, its CPU seconds, and the most bytes that it held at a time beyond those held before."""
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak from here on
    before = int(status.read_text(encoding="ascii").split("VmRSS:")[1].split()[0])
    began = time.process_time()
    answer = work()
    seconds = time.process_time() - began
    return answer, seconds, 1024 * (int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) - before)


def _keys() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Band keys and the records that they are of, in no order."""
    rng = np.random.default_rng(0)
    records = BAND_ROWS // BANDS
    sizes = rng.integers(2, 10, records // 12)
    family = np.repeat(np.arange(len(sizes)), sizes)[: int(0.45 * records)]
    family = np.concatenate([family, len(sizes) + np.arange(records - len(family))])
    rng.shuffle(family)
    keys = np.empty((records, BANDS), np.uint64)
    for band in range(BANDS):
        own = rng.random(records) < 0.33
        source = np.where(own, np.arange(records) + (1 << 32), family) * BANDS + band
        mixed = source.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ mixed >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9)
        keys[:, band] = mixed ^ mixed >> np.uint64(32)
    return keys.reshape(-1), np.repeat(np.arange(records), BANDS)


def _cluster(folder: str) -> dict[str, float]:
    _warm()
    keys, rows = _keys()
    shares = -(-len(keys) // TASK_SIZES.keys)
    of = (keys >> np.uint64(40)).astype(np.int64) * shares >> 24
    bucketing, bucket_peak, forests = 0.0, 0, []
    for share in range(shares):
        inside = of == share
        ours, numbers = keys[inside], rows[inside]
        work = functools.partial(group_by_key, ours, numbers, numbers.astype(np.uint32))
        (groups, _), seconds, peak = _cost(work)
        bucketing, bucket_peak = bucketing + seconds, max(bucket_peak, peak + ours.nbytes + numbers.nbytes)
        leaders = np.repeat(groups.members[groups.offsets[:-1]], np.diff(groups.offsets))
        others = groups.members != leaders
        forests.append(Forest(groups.members[others], leaders[others]))
    band_rows, records = len(keys), int(rows[-1]) + 1
    del keys, rows, of
    merging, level = 0.0, 0
    while len(forests) > FORESTS_PER_MERGE or not level:
        several = []
        for first in range(0, len(forests), FORESTS_PER_MERGE if level else 1):
            one, seconds, _ = _cost(
                functools.partial(merge_forests, forests[first : first + (FORESTS_PER_MERGE if level else 1)])
            )
            several.append(one)
            merging += seconds
        forests, level = several, level + 1
    for number, forest in enumerate(forests):
        np.save(Path(folder) / f"{number}.npy", np.stack(forest))
    return {
        "band rows": band_rows,
        "records": records,
        "bucketing": bucketing,
        "bucket peak": bucket_peak,
        "merging": merging,
    }


def _last_merge(folder: str) -> dict[str, float]:
    _warm()
    forests = [Forest(*np.load(path)) for path in sorted(Path(folder).glob("*.npy"))]
    forest, seconds, peak = _cost(functools.partial(merge_forests, forests))
    return {
        "duplicated": len(np.unique(np.concatenate(forest))),
        "last merge": seconds,
        "forest bytes": sum(end.nbytes for end in forest),
        "merge peak": peak,
    }


def _warm() -> None:
    """Kernels are loaded before the clock starts."""
    small = np.arange(8)
    group_by_key(small.astype(np.uint64), small, small.astype(np.uint32))
    merge_forests([Forest(np.array([1, 3]), np.array([0, 1]))])
