"""Every data set that Winnow reads by name, one per file: the list."""

from __future__ import annotations

from pipelines.sources.generated import GENERATED
from pipelines.sources.source import Source

_ALL: tuple[Source, ...] = (*GENERATED,)

SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
"""A recipe's `adapter` -> the source."""

__all__ = ["SOURCES", "Source"]
