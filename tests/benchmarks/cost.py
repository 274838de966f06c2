"""What a build costs, step by step, beside an earlier commit, and beside what the hardware gives.

The mini recipe where real data is at hand, the demo's otherwise, built by both in turn with one worker: CPU seconds are
the least of several builds, and disk is what a step leaves. Every file of text, tokens and packs is compared: nothing
that makes a build cheaper may change a byte of them. Limits are measured in the same process: what a step cannot be
faster than, if it reads, writes, hashes or copies all text.

`WINNOW_BEFORE` names the earlier commit, `WINNOW_ROUNDS` the number of builds of each.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import xxhash

from dedup.columns import as_array
from dedup.tokens import tokenize
from pipelines import plan
from pipelines.ledger import runs, storage
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import load
from tests.benchmarks.earlier import ROOT, checkout

BEFORE = os.environ.get("WINNOW_BEFORE", "6c223d9")
"""Main before its cost was worked on."""
ROUNDS = int(os.environ.get("WINNOW_ROUNDS", "3"))

BUILD = "import sys; from flows.cli.main import main; sys.exit(main())"
SAME = ("tokens", "pack", "tokenizer")
"""Steps whose files must have the bytes of before; of the corpus the last step of records as well."""

LIMIT_OF = {
    "ingest": "write text as Parquet",
    "refine": "read text from Parquet",
    "exact-duplicates": "hash text",
    "near-duplicates": "split text into tokens and hash them",
    "contamination": "split text into tokens and hash them",
    "tokenizer": "read text from Parquet",
    "tokens": "read text from Parquet",
    "pack": "copy memory",
    "training-overlap": "read text from Parquet",
}
"""What a step does to all text at least."""


class Built(NamedTuple):
    """One build: CPU seconds of the tasks of each step, seconds of the whole step, bytes on disk by step, and the
    digests of its files by step and place."""

    seconds: dict[str, float]
    whole: dict[str, float]
    disk: dict[str, int]
    digests: dict[str, list[str]]
    run: RecordedRun


def bench(data: Path | None) -> dict[str, list[dict[str, object]]]:
    """Rows by heading."""
    name = "hrm_text_mini" if data else "demo"
    with tempfile.TemporaryDirectory() as folder:
        with checkout(BEFORE, Path(folder)) as before:
            builds = _builds(name, {"before": before, "after": ROOT}, Path(folder))
        before_all, after_all = builds["before"], builds["after"]
        text = _text(after_all[-1].run)
        limits = _limits(after_all[-1].run, Path(folder))
        return {
            "Steps": _steps(before_all, after_all, text, limits),
            "Limits": [{"what": what, "mb_per_core_second": round(speed, 1)} for what, speed in limits.items()],
            "Bytes": _bytes_compared(before_all[-1], after_all[-1]),
            "The plan of hrm_text.yaml": _plan(),
            "A plan and its build": _planned(name, after_all),
        }


def _builds(name: str, checkouts: dict[str, Path], folder: Path) -> dict[str, list[Built]]:
    """Build in each checkout in turn; the first builds of all load and compile kernels, and are not counted."""
    found: dict[str, list[Built]] = {side: [] for side in checkouts}
    for number in range(ROUNDS + 1):
        for side, place in checkouts.items():
            root = folder / f"root-{side}"
            subprocess.run(["rm", "-rf", root], check=True)
            environment = os.environ | {"PYTHONPATH": str(place), "POLARS_MAX_THREADS": "1"}
            recipe = ROOT / "pipelines" / "recipes" / f"{name}.yaml"
            words = ["build", str(recipe), "--root", str(root), "--engine", "local", "--workers", "1"]
            made = subprocess.run(
                [sys.executable, "-c", BUILD, *words], cwd=place, env=environment, capture_output=True, text=True
            )
            if made.returncode:
                raise RuntimeError(f"{side}: {made.stderr[-2000:]}")
            if number:
                found[side].append(_read(root))
    return found


def _read(root: Path) -> Built:
    (path,) = root.glob("runs/*/run.json")
    value = json.loads(path.read_bytes())
    seconds = {step["name"]: step["core_seconds"] for step in value["steps"] if step.get("core_seconds")}
    whole = {step["name"]: step["seconds"] for step in value["steps"]}
    disk, digests = {}, {}
    for step in value["steps"]:
        folder = root / "steps" / step["folder"]
        files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "manifest.json")
        disk[step["name"]] = sum(file.stat().st_size for file in files)
        digests[step["name"]] = [
            f"{file.relative_to(folder)} {hashlib.blake2b(file.read_bytes()).hexdigest()}" for file in files
        ]
    # Manifests of an older commit may have another format, so a run is opened only where this one can.
    run = runs.open_run(str(root), path.parent.name) if root.name.endswith("after") else None
    return Built(seconds, whole, disk, digests, run)  # type: ignore[arg-type]


def _text(run: RecordedRun) -> int:
    first = next(step for step in run.steps if step.step == "ingest")
    tables = (storage.read_parquet(file.path, ["instruction", "response"]) for file in first.shards)
    return sum(pc.sum(pc.binary_length(column)).as_py() or 0 for table in tables for column in table.columns)


def _steps(before: list[Built], after: list[Built], text: int, limits: dict[str, float]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    sums = {"before": 0.0, "after": 0.0, "disk before": 0, "disk after": 0}
    for step in after[-1].disk:
        least = [
            min((one.seconds[step] for one in side if step in one.seconds), default=0.0) for side in (before, after)
        ]
        disk = [side[-1].disk.get(step, 0) for side in (before, after)]
        for key, value in zip(sums, [*least, *disk], strict=True):
            sums[key] += value
        row: dict[str, object] = {
            "step": step,
            "core_seconds_before": round(least[0], 2),
            "after": round(least[1], 2),
            "after_to_before": round(least[1] / least[0], 2) if least[0] else "",
            "mb_on_disk_before": round(disk[0] / 1e6, 1),
            "mb_on_disk": round(disk[1] / 1e6, 1),
        }
        if step in LIMIT_OF and least[1]:
            speed = text / least[1] / 1e6
            row |= {"mb_per_core_second": round(speed, 1), "of_its_limit": f"{speed / limits[LIMIT_OF[step]]:.1%}"}
        rows.append(row)
    total = {
        "step": "all steps",
        "core_seconds_before": round(sums["before"], 1),
        "after": round(sums["after"], 1),
        "after_to_before": round(sums["after"] / sums["before"], 2),
        "mb_on_disk_before": round(sums["disk before"] / 1e6, 1),
        "mb_on_disk": round(sums["disk after"] / 1e6, 1),
        "mb_per_core_second": round(text / sums["after"] / 1e6, 1),
    }
    return [*rows, total]


def _speed(size: int, work: Callable[[], Any]) -> float:
    """MB per CPU second, the best of five."""
    seconds = []
    for _ in range(5):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return size / 1e6 / max(min(seconds), 1e-9)


def _limits(run: RecordedRun, folder: Path) -> dict[str, float]:
    """What one core does with the corpus of a run, in MB of its text a second."""
    shards = sorted(run.records.shards, key=lambda file: -file.bytes)[:4]
    tables = [storage.read_parquet(file.path).combine_chunks() for file in shards]
    columns = [as_array(table[name]) for table in tables for name in ("instruction", "response")]
    size = sum(pc.sum(pc.binary_length(column)).as_py() or 0 for column in columns)
    buffers = [np.frombuffer(column.buffers()[2], np.uint8) for column in columns]
    tokenize(columns[0])  # loads the kernel
    return {
        "copy memory": _speed(size, lambda: [buffer.copy() for buffer in buffers]),
        "read text from Parquet": _speed(size, lambda: [storage.read_parquet(file.path) for file in shards]),
        "write text as Parquet": _speed(
            size, lambda: [storage.write_parquet(str(folder / "limit.parquet"), table) for table in tables]
        ),
        "hash text": _speed(size, lambda: [xxhash.xxh3_128(buffer).digest() for buffer in buffers]),
        "split text into tokens and hash them": _speed(size, lambda: [tokenize(column) for column in columns]),
    }


def _bytes_compared(before: Built, after: Built) -> list[dict[str, object]]:
    """Whether the corpus, tokens and packs are the files of before."""
    corpus = after.run.records.step
    return [
        {
            "step": step,
            "files": len(after.digests[step]),
            "equal_to_before": before.digests.get(step) == after.digests[step],
        }
        for step in (corpus, *SAME)
        if step in after.digests
    ]


def _plan() -> list[dict[str, object]]:
    answer = plan.plan(load(str(ROOT / "pipelines/recipes/hrm_text.yaml")))
    rows: list[dict[str, object]] = [
        {
            "step": step.name,
            "core_hours": step.core_hours,
            "memory_gb": step.memory_gb,
            "disk_gb": round((step.disk_bytes or 0) / 1e9, 1),
        }
        for step in answer.steps
    ]
    whole = {"step": "all steps", "core_hours": round(answer.core_hours, 1), "memory_gb": answer.memory_gb}
    return [*rows, whole | {"disk_gb": round(answer.disk_bytes / 1e9)}]


def _planned(name: str, after: list[Built]) -> list[dict[str, object]]:
    """What the plan says of the recipe that was built, beside what its steps took: with one worker that is wall time,
    since a step's own process works too (sums of counts, the report of contamination)."""
    answer = plan.plan(load(str(ROOT / "pipelines/recipes" / f"{name}.yaml")))
    rows: list[dict[str, object]] = []
    for step in answer.steps:
        took = min(one.whole[step.name] for one in after)
        rows.append({"step": step.name, "planned_core_seconds": round(3600 * (step.core_hours or 0), 2), "took": took})
    priced = {str(row["step"]) for row in rows}
    total = min(sum(one.whole[step] for step in priced) for one in after)
    planned = 3600 * answer.core_hours
    ratio = round(planned / total, 2)
    disk = sum(size for step, size in after[-1].disk.items() if step in priced)
    return [
        *rows,
        {
            "step": "all of these",
            "planned_core_seconds": round(planned, 2),
            "took": round(total, 2),
            "planned_to_took": ratio,
        },
        {
            "step": "disk of these, MB",
            "planned_core_seconds": round(answer.disk_bytes / 1e6, 1),
            "took": round(disk / 1e6, 1),
            "planned_to_took": round(answer.disk_bytes / disk, 2),
        },
    ]
