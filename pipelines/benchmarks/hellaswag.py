"""HellaSwag validation as text: six lines per item: the beginning, the index of the right ending, four endings."""

from __future__ import annotations

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, concat, table
from pipelines.errors import InputError
from pipelines.ledger import input_files

_LINES_PER_ITEM = 6


def _read(paths: list[str]) -> pa.Table:
    return concat([table("hellaswag", path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    with input_files.damage(path), input_files.open_input(path) as file:
        lines = file.read().decode().removesuffix("\n").split("\n")
    if len(lines) % _LINES_PER_ITEM:
        raise InputError(f"{path}: {len(lines)} lines, which is not a multiple of {_LINES_PER_ITEM}; fetch it again")
    items = []
    for start in range(0, len(lines), _LINES_PER_ITEM):
        beginning, answer, *endings = lines[start : start + _LINES_PER_ITEM]
        if answer not in ("0", "1", "2", "3"):
            raise InputError(f"{path}: line {start + 2}: {answer!r} is not the index of an ending")
        items.append((start // _LINES_PER_ITEM, Item(beginning, endings[int(answer)], endings)))
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
