"""Train splits of multiple-choice sets in the wording of the LLM-Adapters repository, `direct`.

Each row asks for one of `answer1`, `answer2` ... or `true`, `false`, and says so; the wording is kept, since without it
the response means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipelines.formats.pairs import join_input, raw
from pipelines.formats.reading import read, text
from pipelines.sources.source import Source


def read_adapters(path: str) -> Iterator[pa.Table]:
    """RAW rows of a file in that wording. Errors: as `reading.read`."""
    for rows in read(path, text("instruction", "input", "output"), optional=("input",)):
        yield raw(rows, join_input(rows["instruction"], rows["input"]), rows["output"], "direct")


def _source(name: str, title: str, licence: str) -> Source:
    home = "https://github.com/AGI-Edgerunners/LLM-Adapters"
    return Source(name, title, home, "unknown", licence, ("direct",), overlaps=(f"{name}/train",), read=read_adapters)


ARC_CHALLENGE = _source("arc_challenge", "ARC, challenge set, train split", "Apache-2.0")
BOOLQ = _source("boolq", "BoolQ, train split, questions without passages", "Apache-2.0")
