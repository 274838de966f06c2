"""What does the ledger know about a corpus? One value that all documents about it are written from.

Nothing is guessed. What the ledger does not know is None here, and the documents list it as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pipelines.export.export import Exported, check_rows, exported, new_folder
from pipelines.export.manifest import rows_by_source, version
from pipelines.ledger import storage
from pipelines.ledger.corpus_manifest import Selection, selection
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.storage import TableRef
from pipelines.records import RECORD
from pipelines.sources import SOURCES
from pipelines.steps.ingest import INGEST, by_source
from pipelines.steps.pack import PACK
from pipelines.steps.products import RECORDS, TOKENIZER_JSON
from pipelines.steps.train_tokenizer import TOKENIZER

UNKNOWN_LICENCES = ("unknown", "")
"""How a source says that its licence is not known."""

Origin = Literal["public", "private", "computed"]
"""Where a source comes from: an address that anyone can open, files of the user's own, or a program of Winnow."""


class SourceFile(NamedTuple):
    """A file of a source: its name in ids, its path or URL as the recipe read it, and what identifies its content."""

    name: str
    path: str | None
    identity: str


class SourceFacts(NamedTuple):
    """A source of a corpus.

    title, home, revision, licence, generators: None where neither the recipe nor the adapter says. rows_read: rows of
    its files; rows: of the corpus; tokens: of those that can be drawn; drawn_tokens: of all epochs; None for a scan.
    """

    name: str
    adapter: str | None
    origin: Origin
    title: str | None
    home: str | None
    revision: str | None
    licence: str | None
    generators: tuple[str, ...] | None
    files: tuple[SourceFile, ...]
    rows_read: int
    rows: int
    tokens: int | None
    drawn_tokens: int | None

    @property
    def synthetic(self) -> bool | None:
        """Whether language models wrote text of it; None if that is not known."""
        return None if self.generators is None else bool(self.generators)


class Facts(NamedTuple):
    """A corpus. finished: time in UTC, ISO 8601. columns: of its records, with their Arrow types.

    dropped: step -> `stage/reason` -> rows, of those that are not in the corpus. untrained: reason -> rows of the
    corpus that training cannot use. selection: where a manifest chose the rows. languages: that a filter keeps, None
    without one. rewriters: models that rewrote responses.
    """

    run: str
    recipe: str
    finished: str
    winnow: str
    settings: Mapping[str, Any]
    steps: tuple[Manifest, ...]
    columns: Mapping[str, str]
    rows_read: int
    rows: int
    bytes: int | None
    tokens: int | None
    tokenizer: str | None
    epochs: int | None
    sources: tuple[SourceFacts, ...]
    dropped: Mapping[str, Mapping[str, int]]
    untrained: Mapping[str, int]
    selection: Selection | None
    languages: tuple[str, ...] | None
    rewriters: tuple[str, ...]

    @property
    def licences(self) -> tuple[str, ...]:
        """The licences of its sources that are known, each once, sorted."""
        return tuple(sorted({source.licence for source in self.sources if source.rows and source.licence}))

    @property
    def missing(self) -> tuple[str, ...]:
        """What a document about the corpus would need, and the ledger does not know: one line each."""
        lines = []
        for source in self.sources:
            if not source.rows:
                continue
            if source.licence is None:
                lines.append(f"licence of source {source.name}")
            if source.generators is None:
                lines.append(f"whether language models wrote text of source {source.name}, and which")
            if source.home is None:
                lines.append(f"where source {source.name} was obtained from")
        if self.languages is None:
            lines.append("languages of the text (no filter of the recipe names them)")
        return tuple(lines)


def _bytes(shards: Sequence[TableRef]) -> int | None:
    """Bytes of the files of the corpus; None if they are selections, whose text is in files of other steps."""
    if any(map(storage.is_selection, shards)):
        return None
    return sum(int(shard.bytes) for shard in shards)


def facts(run: RecordedRun) -> Facts:
    """What the ledger knows about the corpus of a run."""
    settings = run.info["settings"]
    packs, tokenizer = run.step(PACK.name), run.step(TOKENIZER.name)
    counts = packs.counts if packs else {}
    sources = tuple(_sources(run, counts if packs else None))
    languages = next((stage["languages"] for stage in settings["stages"] if stage.get("kind") == "language"), None)
    columns = {field.name: str(field.type) for field in RECORD}
    shards = [shard for shard in run.records.shards if shard.rows]
    if shards:
        columns = {field.name: str(field.type) for field in storage.schema(shards[0].path)}
    return Facts(
        run=run.id,
        recipe=str(run.info["recipe"]),
        finished=str(run.info["finished"]),
        winnow=version(),
        settings=settings,
        steps=run.steps,
        columns=columns,
        rows_read=run.steps[0].rows_in or 0,
        rows=run.records.rows_kept or 0,
        bytes=_bytes(shards),
        tokens=sum(source.tokens or 0 for source in sources) if packs else None,
        tokenizer=tokenizer.file(TOKENIZER_JSON).digest if tokenizer else None,
        epochs=int(settings["sampling"]["epochs"]) if packs else None,
        sources=sources,
        dropped={step.step: step.reasons for step in run.steps if step.reasons and step.kept == RECORDS},
        untrained={reason: rows for step in run.steps if step.kept != RECORDS for reason, rows in step.reasons.items()},
        selection=selection(settings),
        languages=tuple(languages) if languages else None,
        rewriters=tuple(
            dict.fromkeys(str(stage["model"]) for stage in settings["stages"] if stage.get("kind") == "rewrite")
        ),
    )


def export_document(run: RecordedRun, out: str, name: str, text: Callable[[Facts], str]) -> Exported:
    """Write a document about a run as the file `name` of a new folder. Raises: as `export.Export`."""
    check_rows(run)
    with new_folder(out) as folder:
        (folder / name).write_text(text(facts(run)), encoding="utf-8")
    return exported(out, run.records.rows_kept or 0)


def _sources(run: RecordedRun, counts: Mapping[str, int] | None) -> Iterator[SourceFacts]:
    ingest = run.step(INGEST.name)
    assert ingest is not None, "every run reads sources"
    read, kept = by_source(ingest), rows_by_source(run)
    specs = {spec["name"]: spec for spec in run.info["settings"]["sources"]}
    for described in ingest.parameters["sources"]:
        name, spec = str(described["name"]), specs.get(described["name"], {})
        adapter = SOURCES.get(described["adapter"] or "")
        paths = spec.get("path")
        patterns = [] if paths is None else [paths] if isinstance(paths, str) else list(paths)
        licence = spec.get("licence") or (adapter.licence if adapter else None)
        generators = spec.get("generators")
        if generators is None and adapter is not None:
            generators = adapter.generators
        home = spec.get("home") or (adapter.home if adapter else None)
        home = home or next((pattern for pattern in patterns if not storage.is_local(pattern)), None)
        computed = adapter is not None and adapter.generate is not None
        yield SourceFacts(
            name=name,
            adapter=described["adapter"],
            origin="computed" if computed else "public" if home is not None else "private",
            title=adapter.title if adapter else None,
            home=home,
            revision=adapter.revision if adapter else None,
            licence=None if licence in UNKNOWN_LICENCES else licence,
            generators=None if generators is None else tuple(generators),
            files=tuple(_files(described, patterns)),
            rows_read=read[name][0],
            rows=kept.get(name, 0),
            tokens=None if counts is None else counts.get(f"coverage/{name}/tokens", 0),
            drawn_tokens=None if counts is None else counts.get(f"coverage/{name}/drawn_tokens", 0),
        )


def _files(described: Mapping[str, Any], patterns: list[str]) -> Iterator[SourceFile]:
    """The files of a source. A single pattern without a wildcard is the path of a single file."""
    files = described["files"]
    for file, _, identity in files:
        plain = len(files) == len(patterns) == 1 and not any(character in patterns[0] for character in "*?[")
        yield SourceFile(str(file), patterns[0] if plain else None, str(identity))
