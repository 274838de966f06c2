"""SYNTH: exercises over rewritten Wikipedia articles, in English, without cooking and questions about the model itself.

The reasoning of a row is not read. Multiple choice is `synth,direct`, mathematics `synth,noisy,cot`, every other
exercise `synth,cot`. In `rag` the constraints (the passages) are part of the question.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import exclude, raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub

_CONDITIONS = {
    **dict.fromkeys(("creative writing", "constrained writing", "editing", "memorization", "rag"), "synth,cot"),
    **dict.fromkeys(("mcq", "math mcq"), "synth,direct"),
    "math exercise": "synth,noisy,cot",
}


def _read(path: str) -> Iterator[pa.Table]:
    kinds, tags = (pa.array(list(names), pa.string()) for names in (_CONDITIONS, _CONDITIONS.values()))
    columns = text_columns("language", "exercise", "query", "query_seed_url", "constraints", "synthetic_answer")
    for rows in read(path, columns):
        exercise, query = rows["exercise"], rows["query"]
        # HRM-Text filters with Polars, which leaves out rows for which a comparison is null. The same holds here.
        english = pc.fill_null(pc.equal(rows["language"], "en"), False)
        incomplete = pc.or_(pc.is_null(rows["query_seed_url"]), pc.is_null(exercise))
        self_knowledge = pc.match_substring(rows["query_seed_url"], "Pleias self-knowledge")
        instruction = pc.if_else(
            pc.equal(exercise, "rag"), pc.binary_join_element_wise(query, rows["constraints"], ""), query
        )
        condition = tags.take(pc.index_in(exercise, kinds).combine_chunks())
        yield exclude(
            raw(rows, instruction, rows["synthetic_answer"], condition),
            ("other_language", pc.invert(english)),
            ("self_knowledge", self_knowledge),
            ("cooking", pc.equal(exercise, "cooking")),
            ("unknown_exercise", pc.or_(incomplete, pc.is_null(condition))),
        )


SYNTH = Source(
    name="synth",
    title="SYNTH: exercises over rewritten Wikipedia, English",
    home=HUB + "PleIAs/SYNTH",
    revision="main",
    licence="CDLA-Permissive-2.0",
    conditions=("synth,cot", "synth,direct", "synth,noisy,cot"),
    path=on_hub("PleIAs/SYNTH", "*.parquet"),
    rows=79_648_272,
    part="wikipedia",
    read=_read,
)
