"""Which data sets can Winnow read by name? Their licences, sizes, and the evaluation sets that they contain."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from pipelines.sources import SOURCES


class SourceEntry(BaseModel):
    """A data set as `pipelines.sources.source.Source` describes it.

    rows, bytes: as its page gives them, None where unknown. generated: whether Winnow generates it, in any size.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    licence: str
    home: str
    revision: str
    conditions: tuple[str, ...]
    rows: int | None
    bytes: int | None
    path: tuple[str, ...]
    overlaps: tuple[str, ...]
    generated: bool


class SourcesAnswer(BaseModel):
    """All data sets. `winnow sources --json` prints it."""

    model_config = ConfigDict(frozen=True)

    sources: tuple[SourceEntry, ...]


def catalogue() -> SourcesAnswer:
    """All data sets that a recipe may name as `adapter`."""
    names = [name for name in SourceEntry.model_fields if name != "generated"]
    return SourcesAnswer(
        sources=tuple(
            SourceEntry(**{name: getattr(source, name) for name in names}, generated=source.generate is not None)
            for source in SOURCES.values()
        )
    )


def origin_of(adapter: str) -> dict[str, str]:
    """What a run records of a data set: title, home, licence and revision; empty for an adapter that is unknown."""
    if adapter not in SOURCES:
        return {}
    source = SOURCES[adapter]
    return {name: getattr(source, name) for name in ("title", "home", "licence", "revision")}
