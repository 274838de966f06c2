"""HellaSwag validation: a beginning and four endings.

As text an item has six lines: the beginning after its activity ("Roof shingle removal: A man ..."), the index of the
right ending, four endings. On the hub the activity is a column of its own, and the beginning has two parts (`details`):
whole sentences, and the words with which the next sentence begins. The activity is no part of the question (it is the
detail `activity`), since most texts that have the item leave it out. The text has no marks such as `[title]`, which the
hub has in beginnings and endings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, Layout, concat, file_items, numbered, table
from pipelines.errors import InputError
from pipelines.ledger import input_files
from pipelines.sources.source import on_hub

_LINES_PER_ITEM = 6
_PARTS = ("ctx_a", "ctx_b")


def _read(paths: list[str]) -> pa.Table:
    return concat([table("hellaswag", path, _items(path)) for path in paths])


def _hub_item(row: dict[str, Any]) -> Item:
    parts = {"ctx_a": row["ctx_a"], "ctx_b": row["ctx_b"] or ""} if row["ctx_a"] else {}
    return _item(row["activity_label"], row["ctx"], row["endings"], row["label"], parts)


def _item(activity: str, beginning: str, endings: Sequence[str], label: str, parts: Mapping[str, str]) -> Item:
    item = numbered(beginning, endings, label)
    return item._replace(details={**item.details, "activity": activity, **parts})


_HUB = Layout(
    pa.schema(
        [
            ("activity_label", pa.string()),
            ("ctx", pa.string()),
            ("endings", pa.list_(pa.string())),
            ("label", pa.string()),
            *((name, pa.string()) for name in _PARTS),
        ]
    ),
    _hub_item,
    optional=_PARTS,
)


def _items(path: str) -> list[tuple[int, Item]]:
    return _text_items(path) if input_files.suffix(path) == ".txt" else file_items(path, _HUB)


def _text_items(path: str) -> list[tuple[int, Item]]:
    with input_files.damage(path), input_files.open_input(path) as file:
        lines = file.read().decode().removesuffix("\n").split("\n")
    if len(lines) % _LINES_PER_ITEM:
        raise InputError(f"{path}: {len(lines)} lines, which is not a multiple of {_LINES_PER_ITEM}; fetch it again")
    items = []
    for start in range(0, len(lines), _LINES_PER_ITEM):
        beginning, answer, *endings = lines[start : start + _LINES_PER_ITEM]
        if answer not in ("0", "1", "2", "3"):
            raise InputError(f"{path}: line {start + 2}: {answer!r} is not the index of an ending")
        activity, colon, rest = beginning.partition(": ")
        activity, rest = (activity, rest) if colon else ("", beginning)
        items.append((start // _LINES_PER_ITEM, _item(activity, rest, endings, answer, {})))
    return items


HELLASWAG = Benchmark(
    name="hellaswag",
    title="HellaSwag, validation split",
    home="https://github.com/klosax/hellaswag_text_data",
    revision="unknown",
    licence="MIT",
    read=_read,
    path=on_hub("Rowan/hellaswag", "data/validation-*.parquet"),
    shots=on_hub("Rowan/hellaswag", "data/train-*.parquet"),
    files=("hellaswag_val*.txt*",),
)
