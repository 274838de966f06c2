"""LRMTokenEconomy: answers of reasoning models, five per row, `synth,cot`. Thinking is in a field of its own.

That field is not read. Some answers contain thinking all the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipelines.sources.reasoning_gym_eval import read_answers
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    return read_answers(path, "prompt", "output")


LRM_TOKEN_ECONOMY = Source(
    name="lrm_token_economy",
    title="LRMTokenEconomy: answers of Llama-3.3-Nemotron-Super-49B",
    home="https://github.com/cpldcpu/LRMTokenEconomy",
    revision="unknown",
    licence="Apache-2.0",
    conditions=("synth,cot",),
    overlaps=("aime/test",),
    read=_read,
)
