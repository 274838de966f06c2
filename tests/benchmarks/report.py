"""What does a report cost? CPU time of writing it in a new process and again in the same one, and its size.

The first drawing of a process starts the renderer of charts; the compiled filters are loaded for runs that have enough
rows. What is loaded by the command that builds is not counted.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"

SMALL = """
name: small
sources:
  - {name: generated_arithmetic, adapter: generated_arithmetic, rows: 400}
  - {name: generated_web, adapter: generated_web, rows: 200}
stages: [{kind: strip_thinking}, {kind: refusal}, {kind: loop}]
contamination: {benchmarks: [{name: generated, rows: 20}]}
tokenizer: {vocab_size: 600}
sampling: {epochs: 2, context: 257}
"""

WRITE = """
import json, sys, time
import flows.execute
from pipelines.audit.report import write_report
from pipelines.ledger.runs import open_run
run, seconds = open_run(sys.argv[1], "latest"), []
for _ in range(2):
    began = time.process_time()
    path = write_report(run)
    seconds.append(time.process_time() - began)
print(json.dumps([path, run.steps[0].rows_in, *seconds]))
"""


def bench(data: Path | None) -> list[dict[str, object]]:
    """A row for each run."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "small.yaml").write_text(SMALL)
        recipes = [Path(folder) / "small.yaml", RECIPES / "demo.yaml"]
        for recipe in [*recipes, RECIPES / "hrm_text_mini.yaml"] if data else recipes:
            root = Path(folder) / recipe.stem
            build = ["-m", "flows.cli.main", "build", str(recipe), "--engine", "local", "--root", str(root)]
            subprocess.run([sys.executable, *build], check=True, capture_output=True)
            answer = subprocess.run(
                [sys.executable, "-c", WRITE, str(root)], check=True, capture_output=True, text=True
            )
            path, read, first, again = json.loads(answer.stdout)
            page = Path(path).read_text(encoding="utf-8")
            packed = re.search(r'id="packed">([^<]*)<', page)
            rows.append(
                {
                    "recipe": recipe.stem,
                    "rows read": read,
                    "first in a process, CPU s": first,
                    "again, CPU s": again,
                    "page, KB": len(page.encode()) / 1000,
                    "of it rows to search, KB": len(packed[1]) / 1000 if packed else 0,
                    "drawings": page.count("<svg "),
                }
            )
    return rows
