"""SYNTH: exercises over rewritten Wikipedia articles. English only, without recipes and without the model's own story.

The reasoning of each row is never read. Of the kinds of exercise, choices are `synth,direct`, mathematics is
`synth,noisy,cot`, all others `synth,cot`. In `rag` the constraints (the passages) belong to the question.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import exclude, raw
from pipelines.formats.reading import read, text
from pipelines.sources.source import HUB, Source, on_hub

_CONDITIONS = {
    **dict.fromkeys(("creative writing", "constrained writing", "editing", "memorization", "rag"), "synth,cot"),
    **dict.fromkeys(("mcq", "math mcq"), "synth,direct"),
    "math exercise": "synth,noisy,cot",
}
_KINDS = pa.array(list(_CONDITIONS), pa.string())
_TAGS = pa.array(list(_CONDITIONS.values()), pa.string())


def _read(path: str) -> Iterator[pa.Table]:
    columns = text("language", "exercise", "query", "query_seed_url", "constraints", "synthetic_answer")
    for rows in read(path, columns):
        exercise, query = rows["exercise"], rows["query"]
        # Polars, with which HRM-Text filters, has no row where a comparison is null; neither do we, but we say so.
        english = pc.fill_null(pc.equal(rows["language"], "en"), False)
        unsaid = pc.or_(pc.is_null(rows["query_seed_url"]), pc.is_null(exercise))
        itself = pc.match_substring(rows["query_seed_url"], "Pleias self-knowledge")
        asked = pc.if_else(
            pc.equal(exercise, "rag"), pc.binary_join_element_wise(query, rows["constraints"], ""), query
        )
        condition = _TAGS.take(pc.index_in(exercise, _KINDS).combine_chunks())
        yield exclude(
            raw(rows, asked, rows["synthetic_answer"], condition),
            ("other_language", pc.invert(english)),
            ("self_knowledge", itself),
            ("cooking", pc.equal(exercise, "cooking")),
            ("unknown_exercise", pc.or_(unsaid, pc.is_null(condition))),
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
