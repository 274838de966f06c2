"""ARB: problems in mathematics, science, physics, law and reading, one file per subject; law `direct`, the rest `cot`.

A sentence before each problem names the subject. HRM-Text trains on it although it is an evaluation set.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import InputError, nearest
from pipelines.formats.pairs import raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub

_SUBJECTS = {
    "math": ("Solve the math problem.", "cot"),
    "reading": ("Solve the reading comprehension problem.", "cot"),
    "law": ("Choose the correct option letter.", "direct"),
    "science": ("Solve the science problem.", "cot"),
    "physics": ("Solve the physics problem.", "cot"),
}


def _read(path: str) -> Iterator[pa.Table]:
    subject = posixpath.basename(path).split(".")[0]
    if subject not in _SUBJECTS:
        raise InputError(f"{path}: the file's name is not one of ARB's subjects; {nearest(subject, _SUBJECTS)}")
    request, condition = _SUBJECTS[subject]
    for rows in read(path, text_columns("instruction", "response")):
        instruction = pc.binary_join_element_wise(request, rows["instruction"], "\n\n")
        yield raw(rows, instruction, rows["response"], condition)


ARB = Source(
    name="arb",
    title="ARB (Platypus)",
    home=HUB + "imone/ARB",
    revision="main",
    licence="MIT",
    generators=(),
    conditions=("cot", "direct"),
    overlaps=("arb/test",),
    path=on_hub("imone/ARB", "*.json"),
    bytes=1_484_000,
    part="mathematics",
    read=_read,
)
