"""AMPS Khan: exercises with worked hints, one JSON file per exercise, `noisy,cot`. The response is the hints in order.

Read from the archive as published. A row's number is the position of its file among the archive's Khan files.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipelines.formats.archive import read_small_members
from pipelines.formats.faults import broken_text
from pipelines.records import RAW
from pipelines.sources.source import Source

_FILES_PER_BATCH = 4096


def _read(path: str) -> Iterator[pa.Table]:
    members = (content for name, content in read_small_members(path, ".json") if "khan" in name.split("/")[:-1])
    numbered = enumerate(members)
    # A Python loop: the set has about 100,000 files and will not grow.
    while batch := [_row(row, content) for row, content in itertools.islice(numbered, _FILES_PER_BATCH)]:
        yield pa.Table.from_pylist(batch, schema=RAW)


def _row(row: int, content: bytes) -> dict[str, Any]:
    record: dict[str, Any] = {"row": row, "variant": "", "condition": "noisy,cot", "instruction": None, "fault": None}
    try:
        value = json.loads(content.decode())
        problem, hints = value["problem"], value["hints"]
        if not isinstance(problem, str) or not all(isinstance(hint, str) for hint in hints):
            raise TypeError
        return record | {"instruction": problem, "response": "\n".join(hints).strip()}
    except UnicodeDecodeError:
        fault = "invalid_utf8"
    except json.JSONDecodeError:
        fault = "broken_json"
    except (KeyError, TypeError):
        fault = "wrong_type"
    return record | {"fault": fault, "response": broken_text(content)}


AMPS_KHAN = Source(
    name="amps_khan",
    title="AMPS, Khan Academy part",
    home="https://github.com/hendrycks/math",
    revision="unknown",
    licence="MIT",
    generators=(),
    conditions=("noisy,cot",),
    part="web",
    read=_read,
)
