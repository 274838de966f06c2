"""OpenThoughts2 without code: answers of R1 with their thinking, `synth,cot`. `strip_thinking` removes the thinking.

Left out, as in HRM-Text: rows from sources of code, rows from the source that AceReason contains too, and rows with
`python` or three backticks in the instruction, the answer or its thinking.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import MESSAGES, exclude, first_exchange, raw, with_exchange_faults, with_task
from pipelines.formats.read import read
from pipelines.sources.source import HUB, Source, on_hub

_CODE_SOURCES = ("dolphin", "evolcodegolf", "glaive", "magicoder", "sharegpt", "codefeedback")
_IN_ACEREASON = "nvidia_math"


def _read(path: str) -> Iterator[pa.Table]:
    columns = pa.schema([pa.field("conversations", MESSAGES), pa.field("source", pa.string())])
    for rows in read(path, columns):
        instruction, response, faults = first_exchange(rows["conversations"])
        rows = with_exchange_faults(rows, faults)
        code = pc.match_substring(instruction, "python", ignore_case=True)
        for sign in ("python", "```"):
            code = pc.or_(code, pc.match_substring(response, sign, ignore_case=True))
        table = exclude(
            raw(rows, instruction, response, "synth,cot"),
            ("code", pc.is_in(rows["source"], pa.array(_CODE_SOURCES))),
            ("in_acereason", pc.equal(rows["source"], _IN_ACEREASON)),
            ("code", pa.chunked_array([code])),
        )
        yield with_task(table, "all")


OPENTHOUGHTS2 = Source(
    name="openthoughts2",
    title="OpenThoughts2-1M without code",
    home=HUB + "open-thoughts/OpenThoughts2-1M",
    revision="main",
    licence="Apache-2.0",
    generators=("DeepSeek-R1",),
    conditions=("synth,cot",),
    overlaps=("math/train",),
    path=on_hub("open-thoughts/OpenThoughts2-1M", "data/train-*.parquet"),
    bytes=8_310_000_000,
    part="thinking",
    read=_read,
)
