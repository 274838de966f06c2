"""TextbookReasoning: worked answers by a model, `synth,cot`, and the textbooks' answers, `noisy,direct` without proofs.

The two are sampled separately (TASK).
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipelines.formats.pairs import exclude, interleave, is_proof, raw, with_task
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("question", "answer", "reference_answer")):
        solved = raw(rows, rows["question"], rows["answer"], "synth,cot")
        answered = raw(rows, rows["question"], rows["reference_answer"], "noisy,direct", "direct")
        answered = exclude(answered, ("proof", is_proof(rows["question"])))
        yield interleave([with_task(solved, "cot"), with_task(answered, "direct")])


TEXTBOOKREASONING = Source(
    name="textbookreasoning",
    title="MegaScience TextbookReasoning",
    home=HUB + "MegaScience/TextbookReasoning",
    revision="main",
    licence="CC-BY-NC-SA-4.0",
    generators=("Llama-3.3-70B-Instruct", "DeepSeek-V3"),
    conditions=("synth,cot", "noisy,direct"),
    path=on_hub("MegaScience/TextbookReasoning", "data/train-*.parquet"),
    bytes=532_000_000,
    part="textbook",
    read=_read,
)
