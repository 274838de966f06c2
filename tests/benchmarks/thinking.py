"""Thinking: MB of traces per second of CPU, and what becomes of every real trace.

Counts of the real traces: how many end their thinking, what is left of them, and whether the prediction that was stored
with a trace is still in it. The generated traces that stand in for absent data are only timed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from filters.thinking.strip import StripThinking, Thinking, census, rows_with_thinking, strip
from tests.benchmarks.filters import _generated, cpu_seconds

TIMED_BYTES = 100_000_000
LEFT = r"(?i)</?(think|thinking|thought|answer|output)>"


class Traces(NamedTuple):
    """The outputs of one source, and the predictions that were stored with them (None where there are none)."""

    source: str
    outputs: list[str]
    predictions: list[str | None]


def bench(data: Path | None) -> list[dict[str, object]]:
    """Counts by source, then speeds."""
    sources = [] if data is None else _real(data / "sources")
    rows = [_counts(traces) for traces in sources]
    _, frames = _generated(10_000, "<think>{}</think>\n<answer>42</answer>")
    outputs = [output for traces in sources for output in traces.outputs] or frames
    texts = pa.array(outputs, pa.string())
    texts = pa.concat_arrays([texts] * max(1, TIMED_BYTES // texts.nbytes))
    records = pa.table({"source": ["traces"] * len(texts), "response": texts})
    nothing = Thinking().judge(records).is_valid().to_numpy(zero_copy_only=False)
    for name, work in {
        "strip_thinking": lambda: StripThinking().rewrite(records),
        "strip_thinking, mode keep": lambda: StripThinking(mode="keep").rewrite(records),
        "thinking": lambda: Thinking().judge(records),
        "census for the report": lambda: census(records, nothing),
        "scan for leaks": lambda: rows_with_thinking(texts),
    }.items():
        rows.append({"what": name, "MB/s": texts.nbytes / 1e6 / cpu_seconds(work)})
    return rows


def _counts(traces: Traces) -> dict[str, object]:
    texts = pa.array(traces.outputs, pa.string())
    answers = strip(texts)
    verdicts = Thinking().judge(pa.table({"response": texts})).to_pylist()
    kept = [place for place, verdict in enumerate(verdicts) if verdict is None]
    left = answers.text.to_pylist()
    asked = [place for place in kept if traces.predictions[place]]
    found = sum(_holds(left[place], traces.predictions[place] or "") for place in asked)
    return {
        "what": traces.source,
        "traces": len(texts),
        "blocks": int(answers.blocks.sum()),
        "unclosed": int(answers.unclosed.sum()),
        "dropped": len(texts) - len(kept),
        "with thinking left": len(rows_with_thinking(answers.text))
        + sum(bool(re.search(LEFT, left[place])) for place in kept),
        "predictions": len(asked),
        "predictions found": found,
    }


def _holds(answer: str, prediction: str) -> bool:
    """Predictions were stored without spaces and units, a/b as a fraction: letters in order."""
    letters = iter(_compact(answer))
    return all(letter in letters for letter in _compact(prediction))


def _compact(text: str) -> str:
    return re.sub(r"[\s\\{},.$]|text|frac|boxed", "", text)


def _real(sources: Path) -> list[Traces]:
    found = []
    for path in sorted((sources / "reasoning_traces").glob("rg_*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        pairs = [pair for row in rows for pair in zip(row["code"], row["pred"], strict=True)]
        found.append(Traces(path.stem, [output for output, _ in pairs], [str(said) for _, said in pairs]))
    nemotron = json.loads((sources / "reasoning_traces" / "lrm_nemotron.json").read_text(encoding="utf-8"))
    outputs = [output for row in nemotron["results"] for output in row["output"]]
    found.append(Traces("lrm_nemotron", outputs, [None] * len(outputs)))
    marco = json.loads((sources / "marco_o1_thoughts.json").read_text(encoding="utf-8"))
    outputs = [row["response"] for row in marco]
    said = [re.search(r"(?is)<output>(.*?)(</output>|$)", output) for output in outputs]
    return [*found, Traces("marco_o1", outputs, [match.group(1).strip() if match else None for match in said])]
