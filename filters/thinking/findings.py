"""Findings: what the step `refine` counts about thinking, for the report."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.thinking import proof
from filters.thinking.bare import is_bare_answer
from filters.thinking.strip import Added, census

FINDINGS = pa.schema(
    [
        *(pa.field(name, pa.string(), False) for name in ("finding", "source", "name")),
        *(pa.field(name, pa.int64(), False) for name in ("rows", "blocks", "unclosed", "dropped")),
    ]
)
"""Counts by finding, source and name. rows: how many; the others are 0 but for `removed`.

- `removed`: thinking that came in, by family of tags. blocks, unclosed: blocks; dropped: rows that went for it.
- `left`: marks in the rows kept, as `filters.thinking.proof` finds them.
- `suspected`: unknown marks that begin rows kept. The report shows those that begin many of a source.
- `bare_answer`: rows kept of the condition `cot` (the name) whose response is a bare answer.
- `retagged`: rows kept whose condition `strip_thinking` changed, by the condition that they had.
"""


def findings(
    records: pa.Table, kept: pa.Table, dropped: npt.NDArray[np.bool_] | None, families: Added = ()
) -> pa.Table:
    """FINDINGS of the records [rows] that came in and those that were kept.

    dropped: bool [rows], the records that were dropped for their thinking; None where the recipe does not look for any,
    and bare answers are all that is counted. families: those of the recipe.
    """
    sources, responses = as_array(kept["source"]), as_array(kept["response"])
    bare = np.flatnonzero(is_bare_answer(as_array(kept["condition"]), responses))
    parts = [_finding("bare_answer", _count(kept.take(pa.array(bare)), "condition"))]
    if dropped is not None:
        removed = pl.DataFrame(census(records, dropped, families)).rename({"family": "name"})
        parts += [
            _finding("removed", removed),
            _finding("left", proof.marks(sources, responses)),
            _finding("suspected", proof.suspects(sources, responses)),
        ]
        if "score_thinking" in kept.column_names:
            stripped = kept.filter(pc.not_equal(kept["score_thinking"], 0)).select(["id", "source", "condition"])
            came = records["condition"].take(pc.index_in(stripped["id"], value_set=as_array(records["id"])))
            changed = stripped.set_column(2, "was", came).filter(pc.not_equal(stripped["condition"], came))
            parts.append(_finding("retagged", _count(changed, "was")))
    return pl.concat(parts).to_arrow().cast(FINDINGS)


def _count(records: pa.Table, name: str) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "source": pl.Series(as_array(records["source"]), dtype=pl.String),
            "name": pl.Series(as_array(records[name]), dtype=pl.String),
        }
    )
    return frame.group_by("source", "name").agg(rows=pl.len().cast(pl.Int64)).sort("source", "name")


def _finding(finding: str, counts: pl.DataFrame) -> pl.DataFrame:
    missing = [name for name in FINDINGS.names[4:] if name not in counts.columns]
    return counts.with_columns(
        pl.lit(finding).alias("finding"), *(pl.lit(0, pl.Int64).alias(name) for name in missing)
    ).select(FINDINGS.names)
