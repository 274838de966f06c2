"""NaturalReasoning: questions made from web pages with their reference answers, `noisy,direct`, without proofs.

The set also contains answers of models, which are not read.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import exclude, is_proof, raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("question", "reference_answer")):
        answer = pc.utf8_trim_whitespace(rows["reference_answer"])
        yield exclude(
            raw(rows, rows["question"], answer, "noisy,direct"),
            ("no_answer", pc.equal(answer, "")),
            ("proof", is_proof(rows["question"])),
        )


NATURAL_REASONING = Source(
    name="natural_reasoning",
    title="NaturalReasoning",
    home=HUB + "facebook/natural_reasoning",
    revision="main",
    licence="CC-BY-NC-4.0",
    conditions=("noisy,direct",),
    path=on_hub("facebook/natural_reasoning", "full.jsonl"),
    bytes=4_200_000_000,
    part="web",
    read=_read,
)
