"""What a source is: where a data set comes from, under which licence, and how its rows become RAW rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pyarrow as pa

HUB = "https://huggingface.co/datasets/"
"""The home of a data set on the hub, before its name."""

PARTS: dict[str, int] = {
    "general": 138_700_000_000,
    "wikipedia": 21_700_000_000,
    "mathematics": 6_800_000_000,
    "symbolic": 6_200_000_000,
    "thinking": 2_400_000_000,
    "textbook": 358_000_000,
    "web": 375_000_000,
}
"""Tokens of the parts of HRM-Text's raw corpus, as its paper gives them (arXiv 2605.20613): by part, not by source."""

RAW_TOKENS, RAW_ROWS = 176_500_000_000, 593_700_000
"""The whole of it, from the same place."""

EPOCH_TOKENS = 15_020_000_000
"""Of these HRM-Text's caps and repeats draw for an epoch: 60.07 B in four, 40.39 B of them distinct, as an independent
run of its sampler counted."""


class Source(NamedTuple):
    """One data set.

    home: its page. revision: what `path` reads; `main` where HRM-Text pins none either (an ingest step records what
    each file held), `unknown` where a copy was taken without saying. conditions: those of its records, for the
    catalogue; `read` writes its own into each, since one row may give records of several. overlaps: the
    evaluation sets that it holds by construction, as `<benchmark>/<split>`: whoever scores on them should know.
    version: bump it when `read` or `generate` gives other rows for the same bytes.

    path: where a recipe reads it that gives no path of its own; empty where there is no address to read from. rows,
    bytes: rows, and bytes to download, as its page gives them; None where unknown. part: the part of HRM-Text's corpus
    that it belongs to (PARTS).

    read: one file -> RAW tables (`pipelines.records.RAW`), a bounded batch at a time; the rows in file order, every one
    of them, those that could not be read with their `fault`. generate: (rows, seed) -> RAW tables of `rows` rows in
    all, for a source that is computed and takes no path. A source has exactly one of the two.
    """

    name: str
    title: str
    home: str
    revision: str
    licence: str
    conditions: tuple[str, ...]
    overlaps: tuple[str, ...] = ()
    version: int = 1
    path: tuple[str, ...] = ()
    rows: int | None = None
    bytes: int | None = None
    part: str = ""
    read: Callable[[str], Iterator[pa.Table]] | None = None
    generate: Callable[[int, int], Iterator[pa.Table]] | None = None


def on_hub(name: str, *patterns: str) -> tuple[str, ...]:
    """The files of a data set on the hub, as `hf://` paths of its main branch."""
    return tuple(f"hf://datasets/{name}/{pattern}" for pattern in patterns)
