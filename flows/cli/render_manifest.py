"""How is the difference of two manifests printed?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flows.console import count
from pipelines.audit.manifest_diff import ManifestDiff, SourceDiff

_CHANGES = {
    "changed": "changed",
    "moved": "moved to another id",
    "only_left": "only in the first",
    "only_right": "only in the second",
}


def manifest_diff_lines(answer: ManifestDiff) -> Iterator[str]:
    """The verdict first, then recipe and code, sources, and rows by change."""
    rows = answer.corpus_rows
    yield f"\n  rows         {count(rows[0])}" + ("" if rows[0] == rows[1] else f" -> {count(rows[1])}")
    yield f"  differ       {count(answer.total)}"
    equal = "equal in both heads, which the order contradicts" if answer.contradiction else "equal, byte for byte"
    yield f"  packs        {equal if answer.packs else 'differ'}"
    yield f"  tokenizer    {'equal' if answer.tokenizer else 'differs'}"
    other = [name for name, same in answer.orders.items() if not same]
    yield f"  order        {'equal in all epochs' if not other else 'differs in ' + ', '.join(other)}"
    for key, pair in answer.recipe.items():
        yield f"  {key}: {_value(pair[0])} -> {_value(pair[1])}"
    for step, (left, right) in answer.code.items():
        yield f"  step {step}: code {left} -> {right}"
    for source in answer.sources:
        yield from _source_lines(source)
    for row in answer.rows:
        to = f" -> {row.to}" if row.to else ""
        yield f"  {_CHANGES[row.change]:<20} {row.id + to}"
    if answer.total > len(answer.rows):
        yield f"  and {count(answer.total - len(answer.rows))} more rows; `--rows` lists them"


def _source_lines(source: SourceDiff) -> Iterator[str]:
    counts = {name: getattr(source, name) for name in _CHANGES}
    said = ", ".join(f"{count(number)} {_CHANGES[name]}" for name, number in counts.items() if number)
    rows = count(source.rows[0]) if source.rows[0] == source.rows[1] else " -> ".join(map(count, source.rows))
    yield f"  source {source.name}: {rows} rows{f'; {said}' if said else ''}"
    if source.files:
        more = f" and {len(source.files) - 5} more" if len(source.files) > 5 else ""
        yield f"    files that differ: {', '.join(source.files[:5])}{more}"
    for name, pair in (("revision", source.revision), ("licence", source.licence)):
        if pair is not None:
            yield f"    {name}: {pair[0]} -> {pair[1]}"
    if (drawn := source.mix.get("drawn_tokens")) is not None:
        yield f"    tokens drawn: {count(drawn[0] or 0)} -> {count(drawn[1] or 0)}"


def _value(value: Any) -> str:
    return str(json.dumps(value, ensure_ascii=False))
