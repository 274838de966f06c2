"""A part of a file that one task reads, so that several tasks share one large file."""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """The rows of a file that begin in a range of it. Ranges follow from the file alone.

    start, stop: in bytes of JSON lines, in row groups of Parquet, in batches of Arrow; stop None: to the end. row: the
    number of its first row in the file. rows: how many it has, None where only reading tells.
    """

    start: int = 0
    stop: int | None = None
    row: int = 0
    rows: int | None = None


WHOLE = Span()

SPAN_BYTES = 64 << 20
"""About how many bytes of text a span has. A file with less is one span."""


def by_bytes(size: int) -> list[Span]:
    """Spans of equal length for a file of so many bytes."""
    count = -(-size // SPAN_BYTES)
    edges = [size * index // count for index in range(count)]
    return [Span(start, stop) for start, stop in zip(edges, [*edges[1:], None], strict=True)] if count > 1 else [WHOLE]


def by_units(rows: list[int], sizes: list[int]) -> list[Span]:
    """Spans of whole units (row groups, batches), given the rows and bytes of each."""
    spans: list[Span] = []
    start = row = count = filled = 0
    for index, (own, size) in enumerate(zip(rows, sizes, strict=True), 1):
        count, filled = count + own, filled + size
        if filled >= SPAN_BYTES or index == len(rows):
            spans.append(Span(start, index, row, count))
            start, row, count, filled = index, row + count, 0, 0
    return spans if len(spans) > 1 else [WHOLE]
