"""The whole path, as a person starts it: build, build again, train, evaluate; with time, memory and every count.

On the mini recipe where real data is at hand, on the demo's otherwise. Memory is the sum of the resident sets of the
driver and of all that it started, a page that two of them share counted twice; Ray's own processes are in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

WINNOW = Path(sys.executable).parent / "winnow"
RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"


def bench(data: Path | None) -> list[dict[str, object]]:
    """Rows of what was measured."""
    recipe, benchmark = ("hrm_text_mini", "gsm8k") if data else ("demo", "generated")
    with tempfile.TemporaryDirectory() as root:
        first, cost = _run("build", RECIPES / f"{recipe}.yaml", "--root", root)
        again, cost_again = _run("build", RECIPES / f"{recipe}.yaml", "--root", root)
        assert all(step["reused"] for step in again["steps"])
        trained, cost_train = _run("train", first["run"], "--root", root)
        scored, cost_evaluate = _run("evaluate", "latest", "--benchmark", benchmark, "--limit", "300", "--root", root)
    rows = [
        _row(f"{recipe}: build", cost["seconds"], "s"),
        _row("peak memory of all processes", cost["peak"] / 1e9, "GB"),
        _row("  of the driver and the workers alone", cost["ours"] / 1e9, "GB"),
        _row("build again, everything reused", cost_again["seconds"], "s"),
        _row("rows read", first["rows_in"], "rows"),
        _row("rows kept", first["rows_kept"], "rows"),
    ]
    rows += [_row(f"dropped: {reason}", count, "rows") for reason, count in sorted(first["dropped"].items())]
    rows += [_row(f"step {step['name']}", step["seconds"], "s") for step in first["steps"]]
    rows += [
        _row("train tiny", cost_train["seconds"], "s"),
        _row("  steps", trained["steps"], "steps"),
        _row("  tokens", trained["tokens"], "tokens"),
        _row("  last loss", trained["loss"], "nats"),
        _row(f"evaluate {benchmark}, 300 items", cost_evaluate["seconds"], "s"),
    ]
    for name in ("all", "clean", "contaminated"):
        score = scored["scores"][0][name]
        if score and score["n"]:
            rows.append(_row(f"  {name}: right of {score['n']}", score["correct"], "items"))
    return rows


def _row(what: str, value: float, unit: str) -> dict[str, object]:
    return {"what": what, "value": value, "unit": unit}


def _run(*words: str | Path) -> tuple[dict[str, Any], dict[str, float]]:
    """A command's JSON answer, and what it cost: wall seconds and peak bytes."""
    began = time.monotonic()
    process = subprocess.Popen([WINNOW, *words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = {"peak": 0.0, "ours": 0.0}
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.2):
            try:
                family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            except psutil.Error:
                return
            total = ours = 0
            for member in family:
                try:
                    size, name = member.memory_info().rss, " ".join(member.cmdline()[:1])
                except psutil.Error:
                    continue
                total += size
                # Ray calls an idle worker ray::IDLE and a busy one by its task.
                ours += size if member.pid == process.pid or name.startswith("ray::") else 0
            peak["peak"], peak["ours"] = max(peak["peak"], total), max(peak["ours"], ours)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    printed, said = process.communicate()
    stop.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"winnow {' '.join(map(str, words))}: {said}")
    return dict(json.loads(printed)), {"seconds": time.monotonic() - began, **peak}
