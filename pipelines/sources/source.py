"""What a source is: the origin and licence of a data set, and how its files are turned into RAW rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pyarrow as pa

HUB = "https://huggingface.co/datasets/"
"""The page of a data set on the hub is this and its name."""

PARTS: dict[str, int] = {
    "general": 138_700_000_000,
    "wikipedia": 21_700_000_000,
    "mathematics": 6_800_000_000,
    "symbolic": 6_200_000_000,
    "thinking": 2_400_000_000,
    "textbook": 358_000_000,
    "web": 375_000_000,
}
"""Tokens in each part of HRM-Text's raw corpus (arXiv 2605.20613; the paper gives no numbers per source)."""

RAW_TOKENS, RAW_ROWS = 176_500_000_000, 593_700_000
"""Tokens and rows of that corpus (same paper)."""

EPOCH_TOKENS = 15_020_000_000
"""Tokens that HRM-Text's caps and repeats draw from it for one epoch. Four epochs draw 60.07 B tokens, 40.39 B of them
distinct (counted in an independent run of HRM-Text's sampler)."""

EPOCH_SHARES: dict[str, float] = {
    "general": 0.41,
    "wikipedia": 0.238,
    "mathematics": 0.106,
    "symbolic": 0.085,
    "thinking": 0.112,
    "textbook": 0.024,
    "web": 0.025,
}
"""The share of each part in an epoch's tokens. 95 % of the tokens were counted per source in the same run; the rest is
divided among the parts with sources that it does not list."""


class Source(NamedTuple):
    """One data set.

    home: its page. revision: the revision that `path` reads; `main` if HRM-Text pins none (an ingest step records the
    digest of each file), `unknown` if the copy that was used names none. conditions: the conditions of its records, for
    the catalogue; `read` sets the condition of each record. overlaps: the evaluation sets that it contains by
    construction, as `<benchmark>/<split>`; plan and report warn of them. version: increase it when `read` or `generate`
    returns other rows for the same bytes.

    generators: the language models that wrote text of it, as its page names them; empty if people or programs wrote
    all of it, None if its page does not say. A document about a corpus lists them, or that they are missing.

    path: the files to read if the recipe gives no path; empty if they have no address. rows, bytes: rows, and bytes to
    download, as its page gives them; None if unknown. part: the part of HRM-Text's corpus that it belongs to (PARTS).

    read: path of one file -> RAW tables (`pipelines.records.RAW`), a bounded batch at a time, with every row in file
    order; rows that cannot be read have a `fault`. generate: (rows, seed) -> RAW tables with `rows` rows in total, for
    a source that is computed and has no files. Exactly one of the two is given.
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
    generators: tuple[str, ...] | None = None
    read: Callable[[str], Iterator[pa.Table]] | None = None
    generate: Callable[[int, int], Iterator[pa.Table]] | None = None


def on_hub(name: str, *patterns: str) -> tuple[str, ...]:
    """`hf://` paths of files of a data set on the hub, on its main branch."""
    return tuple(f"hf://datasets/{name}/{pattern}" for pattern in patterns)
