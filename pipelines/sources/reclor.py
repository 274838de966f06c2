"""ReClor train and validation: logic questions from admission tests, answered by an option's letter, `direct`."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import option_letter, options, raw
from pipelines.formats.read import read
from pipelines.sources.source import HUB, Source, on_hub

_COLUMNS = pa.schema(
    [
        pa.field("context", pa.string()),
        pa.field("question", pa.string()),
        pa.field("answers", pa.list_(pa.string())),
        pa.field("label", pa.string()),
    ]
)


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, _COLUMNS):
        instruction = pc.binary_join_element_wise(rows["question"], rows["context"], "Options:", "\n\n")
        instruction = pc.binary_join_element_wise(instruction, options(rows["answers"]), "\n")
        yield raw(rows, instruction, option_letter(rows["label"]), "direct")


RECLOR = Source(
    name="reclor",
    title="ReClor, train and validation (Platypus)",
    home=HUB + "metaeval/reclor",
    revision="main",
    licence="other (research only)",
    generators=(),
    conditions=("direct",),
    overlaps=("reclor/train", "reclor/validation"),
    path=on_hub("metaeval/reclor", "train.json", "val.json"),
    rows=5_138,
    bytes=5_506_000,
    part="mathematics",
    read=_read,
)
