"""What a benchmark is: an evaluation set as a table of items, for decontamination and for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa


class Benchmark(NamedTuple):
    """One evaluation set.

    read: paths of its files -> ITEM table (`pipelines.records.ITEM`), in the order of the files; it may have the column
    `details` too. generate: (rows, seed) -> ITEM table with `rows` rows, for a set that is computed and has no files.
    Exactly one of the two is given. path: the files to read if the recipe gives no path; empty if they have no
    address. shots: the files whose items may be examples in a prompt. scored: the files to score a model on, where they
    have more than those of `path`; empty where they are the same. files: glob patterns of the published files (the end
    of the path), so that `winnow scan` recognises the set in a folder. version: increase it when `read` or `generate`
    returns other items for the same bytes; `details` are not part of what is searched for in a corpus, and do not
    count. The id of an item is `<benchmark>/<split or file>/<n>`.
    """

    name: str
    title: str
    home: str
    revision: str
    licence: str
    version: int = 1
    read: Callable[[list[str]], pa.Table] | None = None
    generate: Callable[[int, int], pa.Table] | None = None
    path: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    shots: tuple[str, ...] = ()
    scored: tuple[str, ...] = ()
