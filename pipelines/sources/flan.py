"""FLAN 2022 as stored by Open-Orca: one folder per submix, with its tasks mixed; `cot_*` is `cot`, the rest `direct`.

The task that is sampled (TASK) is a submix and a task: HRM-Text writes a file for each. The submix is the name of the
file's folder.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import InputError, nearest
from pipelines.formats.pairs import file_name, raw, with_task
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub

SUBMIXES = (
    *(f"{kind}_{shots}opt_data" for kind in ("cot", "dialog", "niv2") for shots in ("fs", "zs")),
    *(
        f"{kind}_{shots}{options}_data"
        for kind in ("flan", "t0")
        for shots in ("fs", "zs")
        for options in ("opt", "noopt")
    ),
)


def _read(path: str) -> Iterator[pa.Table]:
    submix = posixpath.basename(posixpath.dirname(path))
    if submix not in SUBMIXES:
        raise InputError(f"{path}: its folder should be one of FLAN's submixes; {nearest(submix, SUBMIXES)}")
    condition = "cot" if submix.startswith("cot_") else "direct"
    for rows in read(path, text_columns("inputs", "targets", "_task_name")):
        task = file_name(pc.fill_null(rows["_task_name"], "unnamed"))
        yield with_task(
            raw(rows, rows["inputs"], rows["targets"], condition), pc.binary_join_element_wise(f"{submix}__", task, "")
        )


FLAN = Source(
    name="flan",
    title="FLAN 2022, all submixes",
    home=HUB + "Open-Orca/FLAN",
    revision="main",
    licence="CC-BY-4.0",
    conditions=("direct", "cot"),
    overlaps=(
        "arc_challenge/train",
        "arc_easy/train",
        "boolq/train",
        "drop/train",
        "gsm8k/train",
        "hellaswag/train",
        "openbookqa/train",
        "piqa/train",
        "siqa/train",
        "winogrande/train",
    ),
    path=on_hub("Open-Orca/FLAN", *(f"{submix}/*.parquet" for submix in SUBMIXES)),
    bytes=296 << 30,
    part="general",
    read=_read,
)
