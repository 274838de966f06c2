"""What a benchmark is: an evaluation set as a table of items, used twice: to decontaminate and to evaluate."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa


class Benchmark(NamedTuple):
    """One evaluation set.

    read: its files -> ITEM table (`pipelines.records.ITEM`), in the order of the files. generate: (rows, seed) -> ITEM
    table of `rows` rows, for a set that is computed and takes no path. A benchmark has exactly one of the two.
    An item's id is `<benchmark>/<split or file>/<n>`. files: patterns of the ends of paths under which the set is
    published, by which `winnow scan` knows it in a folder.
    """

    name: str
    title: str
    home: str
    revision: str
    licence: str
    version: int = 1
    read: Callable[[list[str]], pa.Table] | None = None
    generate: Callable[[int, int], pa.Table] | None = None
    files: tuple[str, ...] = ()
