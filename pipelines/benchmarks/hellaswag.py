"""HellaSwag validation as text: six lines an item, the beginning, the number of the right ending, four endings."""

from __future__ import annotations

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, table, together
from pipelines.errors import InputError
from pipelines.ledger import storage

_LINES = 6


def _read(paths: list[str]) -> pa.Table:
    return together([table("hellaswag", path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    with storage.damage(path), storage.open_input(path) as file:
        lines = file.read().decode().removesuffix("\n").split("\n")
    if len(lines) % _LINES:
        raise InputError(f"{path}: {len(lines)} lines are no whole number of items of {_LINES} lines; fetch it again")
    items = []
    for start in range(0, len(lines), _LINES):
        beginning, right, *endings = lines[start : start + _LINES]
        if right not in ("0", "1", "2", "3"):
            raise InputError(f"{path}: line {start + 2}: {right!r} is no number of an ending")
        items.append((start // _LINES, Item(beginning, endings[int(right)], endings)))
    return items


HELLASWAG = Benchmark(
    name="hellaswag",
    title="HellaSwag, validation split",
    home="https://github.com/klosax/hellaswag_text_data",
    revision="unknown",
    licence="MIT",
    read=_read,
    files=("hellaswag_val*.txt*",),
)
