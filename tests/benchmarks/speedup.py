"""How much faster are two workers than one? A whole build of 1 GB of text, with one worker and with two.

The text is that of `dedup_growth`: real rows again and again, each time in another alphabet, in files of about 29 MB.
Stages that know English are left out, since they would drop the copies. Every build starts from an empty root. A step
with one task cannot be faster; `tasks` says how many each has. Wall time, so only a quiet machine tells: the load at
the start of each build is printed.

WINNOW_SPEEDUP=0.2,local in the environment measures that many GB with that engine; the default is 1,local,ray.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from tests.benchmarks.dedup_growth import records

WINNOW = Path(sys.executable).parent / "winnow"

RECIPE = """
name: speedup
sources:
  - {{name: text, path: "{files}", columns: {{instruction: instruction, response: response}}, condition: direct}}
stages:
  - {{kind: repair}}
  - {{kind: thinking}}
  - {{kind: strip_thinking}}
  - {{kind: strip_signature}}
  - {{kind: mask_pii}}
  - {{kind: placeholder}}
  - {{kind: length}}
  - {{kind: control}}
  - {{kind: refusal}}
  - {{kind: loop}}
  - {{kind: echo}}
  - {{kind: urls}}
near_duplicates: {{instruction: 0.8, response: 0.8}}
contamination: {{benchmarks: [{benchmarks}]}}
tokenizer: {{vocab_size: 32000}}
sampling: {{epochs: 1, context: 4097}}
"""


def bench(data: Path | None) -> dict[str, list[dict[str, object]]]:
    """A row for each step and engine, and one for the whole build."""
    size, *engines = os.environ.get("WINNOW_SPEEDUP", "1,local,ray").split(",")
    rows: list[dict[str, object]] = []
    loads: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        given = records(Run(folder, LocalEngine(2)), data, float(size))
        recipe = Path(folder, "speedup.yaml")
        files = str(Path(given.shards[0].path).parent / "*.parquet")
        recipe.write_text(RECIPE.format(files=files, benchmarks=benchmarks(data)))
        for engine in engines:
            built = {}
            for workers in (1, 2):
                loads.append({"engine": engine, "workers": workers, "load before": f"{os.getloadavg()[0]:.1f}"})
                built[workers] = _build(recipe, engine, workers)
            one, two = built[1], built[2]
            for before, after in zip(one["steps"], two["steps"], strict=True):
                rows.append(_row(engine, before["name"], _tasks(before), before["seconds"], after["seconds"]))
            rows.append(_row(engine, "the whole command", "", one["seconds"], two["seconds"]))
    return {f"{size} GB": rows, "Load of the machine": loads}


def benchmarks(data: Path | None) -> str:
    """The evaluation sets of the recipe, in YAML."""
    if data is None:
        return "{name: generated, rows: 500}"
    folder = data / "benchmarks"
    return (
        f"{{name: gsm8k, path: {folder}/gsm8k_test.jsonl}}, {{name: math, path: {folder}/math_test.parquet}}, "
        f'{{name: mmlu, path: "{folder}/mmlu/*/*.csv"}}'
    )


def _build(recipe: Path, engine: str, workers: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as root:
        begun = time.monotonic()
        words = [WINNOW, "build", recipe, "--root", root, "--engine", engine, "--workers", str(workers), "--json"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - begun
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        for step in answer["steps"]:
            manifest = next(Path(root, "steps").glob(f"{step['name']}-*/manifest.json"))
            step["parts"] = len(json.loads(manifest.read_text())["parts"])
    return answer | {"seconds": seconds}


def _tasks(step: dict[str, Any]) -> str:
    return str(step["parts"])


def _row(engine: str, step: str, tasks: str, one: float, two: float) -> dict[str, object]:
    return {
        "engine": engine,
        "step": step,
        "tasks": tasks,
        "1 worker, s": f"{one:.1f}",
        "2 workers, s": f"{two:.1f}",
        "times as fast": f"{one / max(two, 1e-9):.2f}",
    }
