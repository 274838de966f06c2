"""GPTeacher: instructions for code and role-play, written and answered by GPT-4, `synth,direct`."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipelines.formats.pairs import join_input, raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("instruction", "input", "response")):
        yield raw(rows, join_input(rows["instruction"], rows["input"]), rows["response"], "synth,direct")


GPTEACHER = Source(
    name="gpteacher",
    title="GPTeacher: Codegen and Roleplay",
    home="https://github.com/teknium1/GPTeacher",
    revision="unknown",
    licence="MIT",
    generators=("GPT-4",),
    conditions=("synth,direct",),
    read=_read,
)
