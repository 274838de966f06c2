"""What a source is: where a data set comes from, under which licence, and how its rows become RAW rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pyarrow as pa


class Source(NamedTuple):
    """One data set.

    condition: the tags of its rows, for the catalogue; `read` writes them into each row, since one row may give
    records of several conditions. overlaps: the evaluation sets that it holds items of by construction, or that were
    drawn from the same pool. version: bump it when `read` or `generate` gives other rows for the same bytes.

    read: one file -> RAW tables (`pipelines.records.RAW`), a bounded batch at a time; the rows in file order, every one
    of them, those that could not be read with their `fault`. generate: (rows, seed) -> RAW tables of `rows` rows in
    all, for a source that is computed and takes no path. A source has exactly one of the two.
    """

    name: str
    title: str
    home: str
    revision: str
    licence: str
    condition: str
    overlaps: tuple[str, ...] = ()
    version: int = 1
    read: Callable[[str], Iterator[pa.Table]] | None = None
    generate: Callable[[int, int], Iterator[pa.Table]] | None = None
