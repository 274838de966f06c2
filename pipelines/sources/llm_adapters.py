"""Train splits of multiple-choice sets in the wording of the LLM-Adapters repository, `direct`.

Each instruction lists the answers it accepts: `answer1`, `answer2` ... or `true`, `false`. The wording is kept: without
it the response has no meaning.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipelines.formats.pairs import join_input, raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import Source


def read_adapters(path: str) -> Iterator[pa.Table]:
    """RAW rows of a file in that wording.

    Raises: InputError: as `formats.read.read`.
    """
    for rows in read(path, text_columns("instruction", "input", "output"), optional=("input",)):
        yield raw(rows, join_input(rows["instruction"], rows["input"]), rows["output"], "direct")


def _source(name: str, title: str, licence: str) -> Source:
    home = "https://github.com/AGI-Edgerunners/LLM-Adapters"
    return Source(name, title, home, "unknown", licence, ("direct",), overlaps=(f"{name}/train",), read=read_adapters)


ARC_CHALLENGE = _source("arc_challenge", "ARC, challenge set, train split", "Apache-2.0")
BOOLQ = _source("boolq", "BoolQ, train split, questions without passages", "Apache-2.0")
