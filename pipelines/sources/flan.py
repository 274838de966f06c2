"""FLAN 2022 as Open-Orca stores it: a folder per submix, in each the tasks mixed; `cot_*` is `cot`, the rest `direct`.

What is sampled is a submix and task (HRM-Text writes a file for each), so that is the TASK of a row. The submix is the
name of the folder that a file lies in.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import InputError, nearest
from pipelines.formats.pairs import file_name, raw, with_task
from pipelines.formats.reading import read, text
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
    for rows in read(path, text("inputs", "targets", "_task_name")):
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
