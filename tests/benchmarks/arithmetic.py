"""How many equations of gold solutions are said to be wrong, what does it say about answers of models, and how fast?"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.scores.arithmetic import Arithmetic, find
from tests.benchmarks.__main__ import Row
from tests.benchmarks.perplexity import load


def bench(data: Path | None) -> dict[str, list[Row]]:
    """The tables. Without real data there is nothing to measure. Every equation said to be wrong goes to stderr."""
    if data is None:
        return {}
    return {
        "Equations of sources": _sources(data),
        "GSM8K: answers of four models that people marked": _people(data),
    }


def _sources(data: Path) -> list[Row]:
    sources = {name: [row[1] for row in rows] for name, rows in load(data / "sources").items()}
    aqua = (data / "sources/flan_cot/aqua_train.tsv").read_text(encoding="utf-8").splitlines()
    sources["flan aqua"] = [line.split("\t")[2].replace("\\n", "\n") for line in aqua if line.count("\t") == 2]
    table: list[Row] = []
    for name, texts in sources.items():
        records = pa.table({"response": pa.array(texts, pa.string())})
        started = time.process_time()
        found = find(records)
        seconds = time.process_time() - started
        wrong = found.filter(pc.invert(found["holds"]))
        for row in wrong.to_pylist():
            print(f"{name}: {row['equation']!r}", file=sys.stderr)
        table.append(
            {
                "source": name,
                "rows": len(texts),
                "rows with equations": len(set(found["row"].to_pylist())),
                "equations": found.num_rows,
                "wrong": wrong.num_rows,
                "rows with a wrong one": len(set(wrong["row"].to_pylist())),
                "MB/s": records.nbytes / 1e6 / seconds,
            }
        )
    return table


def _people(data: Path) -> list[Row]:
    with (data / "ratings/gsm8k_model_solutions.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    table: list[Row] = []
    for model in (None, *sorted({row["model"] for row in rows})):
        chosen = [row for row in rows if model in (None, row["model"])]
        right = np.array([row["is_correct"] for row in chosen])
        records = pa.table({"response": [row["solution"] for row in chosen]})
        values = Arithmetic(name="arithmetic").measure(records)["score_arithmetic"].to_pylist()
        share = np.array([1.0 if value is None else value for value in values])
        wrong = share < 1
        above = (share[right][:, None] > share[~right]).mean() + (share[right][:, None] == share[~right]).mean() / 2
        table.append(
            {
                "model": model or "all",
                "answers": len(chosen),
                "marked wrong": int((~right).sum()),
                "with a wrong equation": int(wrong.sum()),
                "precision": float((wrong & ~right).sum() / max(wrong.sum(), 1)),
                "recall": float((wrong & ~right).sum() / (~right).sum()),
                "AUC": float(above),
                "not measured": values.count(None),
            }
        )
    return table
