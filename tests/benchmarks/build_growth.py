"""The whole build at 0.5, 1, 2 and 4 GB of text: CPU seconds of each step per MB, the driver's, and bytes on disk.

The corpus is that of `speedup`, and each build is a command of its own with two workers. Tasks are what workers took,
and the driver is the rest of the command: starting, manifests, the report. Disk is measured with `store: []`, as
`hrm_text.yaml` has it, and with all that a build may store. Takes about fifteen minutes and 25 GB of disk.

WINNOW_GROWTH=0.5,1 in the environment measures those sizes only.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from tests.benchmarks.dedup_growth import SIZES, records
from tests.benchmarks.speedup import RECIPE, WINNOW, benchmarks

STORE_ALL = 'store=["corpus","tokens"]'


def bench(data: Path | None) -> dict[str, list[dict[str, object]]]:
    """CPU milliseconds per MB of text by step and size; the driver; and bytes on disk per byte of text."""
    asked = os.environ.get("WINNOW_GROWTH")
    sizes = [float(word) for word in asked.split(",")] if asked else list(SIZES)
    built: dict[float, dict[str, Any]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            given = records(Run(folder, LocalEngine(2)), data, size)
            recipe = Path(folder, "growth.yaml")
            files = str(Path(given.shards[0].path).parent / "*.parquet")
            recipe.write_text(RECIPE.format(files=files, benchmarks=benchmarks(data)))
            built[size] = _build(recipe, "store=[]")
            if size == sizes[0]:
                whole = _build(recipe, STORE_ALL)
    return {
        "CPU milliseconds of tasks per MB of text": _by_step(built, "core_seconds", 1.0),
        "The driver": [_driver(size, one) for size, one in built.items()],
        "Bytes on disk per byte of text, `store: []`": _by_step(built, "bytes", 1e-9),
        f"The same with all stored, {sizes[0]:g} GB": _by_step({sizes[0]: whole}, "bytes", 1e-9),
    }


def _build(recipe: Path, store: str) -> dict[str, Any]:
    """What `run.json` says of the steps, with their bytes on disk, and CPU seconds and memory of the command."""
    with tempfile.TemporaryDirectory() as root:
        words = [
            str(WINNOW),
            "build",
            str(recipe),
            "--root",
            root,
            "--engine",
            "local",
            "--workers",
            "2",
            "--set",
            store,
        ]
        measured = ["/usr/bin/env", "python3", "-c", _TIMED, *words, "--json"]
        done = subprocess.run(measured, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        times = json.loads(done.stderr.splitlines()[-1])
        run = next(Path(root, "runs").glob("*/run.json"))
        steps = {step["name"]: step for step in json.loads(run.read_text())["steps"]}
        for folder in Path(root, "steps").iterdir():
            held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            steps[folder.name.rpartition("-")[0]]["bytes"] = held
    return {"steps": steps, **times}


_TIMED = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss}), file=sys.stderr)
sys.exit(code)
"""
"""Runs a command and says what it and its processes took, on the last line of standard error."""


def _by_step(built: Mapping[float, Mapping[str, Any]], key: str, unit: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    names = list(next(iter(built.values()))["steps"])
    for name in names:
        values = {size: one["steps"][name].get(key, 0.0) * unit / size for size, one in built.items()}
        rows.append({"step": name} | {f"{size:g} GB": f"{value:.3g}" for size, value in values.items()})
    sums = {
        size: sum(step.get(key, 0.0) for step in one["steps"].values()) * unit / size for size, one in built.items()
    }
    rows.append({"step": "all steps"} | {f"{size:g} GB": f"{value:.3g}" for size, value in sums.items()})
    return rows


def _driver(size: float, built: Mapping[str, Any]) -> dict[str, object]:
    tasks = sum(step.get("core_seconds", 0.0) for step in built["steps"].values())
    return {
        "text": f"{size:g} GB",
        "CPU seconds of tasks": round(tasks, 1),
        "CPU seconds of the rest": round(built["cpu"] - tasks, 1),
        "most memory of a process, MB": round(built["peak"] / 1024),
    }
