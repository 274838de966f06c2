"""OpenThoughts2: R1's answers with their thinking, `synth,cot`, without code. Thinking is left for `strip_thinking`.

Left out, as HRM-Text does: rows of the sources that are about code, of the one that AceReason has too, and rows with
`python` or three backticks, in their thinking too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import MESSAGES, exchange, exclude, raw, with_task
from pipelines.formats.reading import FAULT, read
from pipelines.sources.source import HUB, Source, on_hub

_CODE = pa.array(["dolphin", "evolcodegolf", "glaive", "magicoder", "sharegpt", "codefeedback"])


def _read(path: str) -> Iterator[pa.Table]:
    columns = pa.schema([pa.field("conversations", MESSAGES), pa.field("source", pa.string())])
    for rows in read(path, columns):
        asked, answered, faults = exchange(rows["conversations"])
        merged = pc.coalesce(rows["fault"], faults)
        rows = rows.set_column(rows.schema.get_field_index("fault"), FAULT, merged)
        code = pc.match_substring(asked, "python", ignore_case=True)
        for sign in ("python", "```"):
            code = pc.or_(code, pc.match_substring(answered, sign, ignore_case=True))
        made = exclude(
            raw(rows, asked, answered, "synth,cot"),
            ("code", pc.is_in(rows["source"], _CODE)),
            ("in_acereason", pc.equal(rows["source"], "nvidia_math")),
            ("code", pa.chunked_array([code])),
        )
        yield with_task(made, "all")


OPENTHOUGHTS2 = Source(
    name="openthoughts2",
    title="OpenThoughts2-1M without code",
    home=HUB + "open-thoughts/OpenThoughts2-1M",
    revision="main",
    licence="Apache-2.0",
    conditions=("synth,cot",),
    overlaps=("math/train",),
    path=on_hub("open-thoughts/OpenThoughts2-1M", "data/train-*.parquet"),
    bytes=8_310_000_000,
    part="thinking",
    read=_read,
)
