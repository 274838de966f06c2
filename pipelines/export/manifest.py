"""The exact corpus without its text: `manifest.arrow`, from which `winnow build --manifest` rebuilds the packs.

`pipelines/ledger/corpus_manifest.py` describes the file.
"""

from __future__ import annotations

import importlib.metadata
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.columns import as_array
from filters.scores.score import PREFIX
from pipelines.errors import WinnowError
from pipelines.export.export import Exported, check_rows, exported, new_folder
from pipelines.ledger import corpus_manifest, storage
from pipelines.ledger.corpus_manifest import NAME, Head, ListedFile, ListedPacks, ListedSource, ListedStep
from pipelines.ledger.input_files import mirrored
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.storage import TableRef
from pipelines.sources import SOURCES
from pipelines.steps.ingest import INGEST
from pipelines.steps.manifest_rows import id_hashes
from pipelines.steps.pack import PACK
from pipelines.steps.products import PACKS, TOKENIZER_JSON, VALIDATION_PACKS
from pipelines.steps.train_tokenizer import TOKENIZER

Places = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]
"""Of one order of sequences: where the places of each record start, int64 [rows + 1], and the places, uint32."""


def export(run: RecordedRun, out: str) -> Exported:
    """Write the manifest of a run. Raises: as `export.Export`.

    Takes 16 bytes of memory for each row and 12 for each sequence of the epochs.
    """
    check_rows(run)
    with new_folder(out) as folder, (folder / NAME).open("wb") as file:
        order = _order(run)
        head = describe(run, corpus_manifest.content_digest(_batches(run, order)))
        corpus_manifest.write(file, head, _batches(run, order))
    return exported(out, head.rows)


def describe(run: RecordedRun, content: str) -> Head:
    """The head of a run's manifest. content: digest of its rows.

    Raises: WinnowError: if the run has no packs.
    """
    packs, tokenizer = run.step(PACK.name), run.step(TOKENIZER.name)
    if packs is None or tokenizer is None:
        raise WinnowError(f"run {run.id} has no packs: a scan ends with text; `winnow build` makes packs")
    trained = packs.tables(PACKS)
    epochs = [_epoch(file) for file in trained]
    sequences = [0] * int(run.info["settings"]["sampling"]["epochs"])
    for file, epoch in zip(trained, epochs, strict=True):
        sequences[epoch] += _sequences(file)
    listed = [_packs(file, "train", epoch) for file, epoch in zip(trained, epochs, strict=True)]
    listed += [_packs(file, "validation", 0) for file in packs.tables(VALIDATION_PACKS)]
    return Head(
        winnow=version(),
        run=run.id,
        recipe=_recipe(run.info["settings"]),
        rows=run.records.rows_kept or 0,
        sources=tuple(_sources(run, packs)),
        steps=tuple(ListedStep(name=step.step, code=step.code_digest, key=step.key) for step in run.steps),
        tokenizer=tokenizer.file(TOKENIZER_JSON).digest,
        epochs=tuple(sequences),
        packs=tuple(listed),
        content=content,
    )


def version() -> str:
    """The version of Winnow."""
    try:
        return importlib.metadata.version("winnow-corpus")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _epoch(file: TableRef) -> int:
    import json

    metadata = storage.map_arrow(file.path).schema.metadata[b"winnow"]
    return int(json.loads(metadata)["epoch"])


def _sequences(file: TableRef) -> int:
    return sum(len(chunk.flatten()) for chunk in storage.map_arrow(file.path)["ids"].chunks)


def _packs(file: TableRef, split: str, epoch: int) -> ListedPacks:
    return ListedPacks(split=split, epoch=epoch, packs=file.rows, bytes=file.bytes, digest=file.digest)


def rows_by_source(run: RecordedRun) -> dict[str, int]:
    """Source -> rows of the corpus."""
    rows: dict[str, int] = {}
    for shard in run.records.shards:
        for value in storage.read_parquet(shard.path, ["source"])["source"].value_counts().to_pylist():
            rows[value["values"]] = rows.get(value["values"], 0) + value["counts"]
    return rows


def _sources(run: RecordedRun, packs: Manifest) -> Iterator[ListedSource]:
    rows = rows_by_source(run)
    ingest = run.step(INGEST.name)
    assert ingest is not None, "every run reads sources"
    for described in ingest.parameters["sources"]:
        name, adapter = described["name"], described["adapter"]
        source = SOURCES.get(adapter or "")
        coverage = f"coverage/{name}/"
        yield ListedSource(
            name=name,
            adapter=adapter,
            title=source and source.title,
            licence=source and source.licence,
            home=source and source.home,
            revision=source and source.revision,
            files=tuple(
                ListedFile(file=file, suffix=suffix, identity=identity) for file, suffix, identity in described["files"]
            ),
            rows=rows.get(name, 0),
            mix={key.removeprefix(coverage): count for key, count in packs.counts.items() if key.startswith(coverage)},
        )


# ---- the recipe that rebuilds the packs --------------------------------------------------------------------------


_DECIDED: dict[str, Any] = {
    "against": [],
    "exact_duplicates": False,
    "near_duplicates": False,
    "contamination": False,
    "subset": None,
    "mirror": None,
}
"""What the manifest's rows decide, so that its recipe need not."""


def _recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A run's recipe without what decided which rows are kept, and with relative paths."""
    values = {**settings, **_DECIDED}
    values.pop("manifest", None)
    values.pop("store", None)  # a preference of who built it
    # Score columns are read by `sampling.weights` alone.
    if not any(str(column).startswith(PREFIX) for column in values["sampling"].get("weights") or {}):
        values["scores"] = []
        values["stages"] = [stage for stage in values["stages"] if stage.get("kind") != "score"]
    mirror = settings.get("mirror")
    values["sources"] = [_source(source, mirror) for source in values["sources"]]
    files = [path for section in _sections(values) for path in _paths(section)]
    local = [path for path in files if storage.is_local(path)]
    base = posixpath.commonpath([posixpath.dirname(path) for path in local]) if local else ""
    return _relative(values, base)


def _source(source: Mapping[str, Any], mirror: str | None) -> dict[str, Any]:
    """A source without its path if that is the address of its adapter."""
    adapter = SOURCES.get(source.get("adapter") or "")
    path = tuple(_paths(source))
    addresses = adapter.path if adapter else ()
    at_home = path == addresses or (mirror is not None and path == tuple(mirrored(one, mirror) for one in addresses))
    return {**source, "path": None} if addresses and at_home else dict(source)


def _paths(section: Mapping[str, Any]) -> Sequence[str]:
    path = section.get("path")
    return [] if path is None else [path] if isinstance(path, str) else list(path)


def _sections(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sections of a recipe that name files."""
    return [*values["sources"], values["tokenizer"], *values["scores"]]


def _relative(values: dict[str, Any], base: str) -> dict[str, Any]:
    def located(section: Mapping[str, Any]) -> dict[str, Any]:
        if section.get("path") is None:
            return dict(section)
        paths = [posixpath.relpath(path, base) if storage.is_local(path) else path for path in _paths(section)]
        return {**section, "path": paths[0] if isinstance(section["path"], str) else paths}

    return {
        **values,
        "sources": [located(section) for section in values["sources"]],
        "tokenizer": located(values["tokenizer"]),
        "scores": [located(section) for section in values["scores"]],
    }


# ---- the rows ----------------------------------------------------------------------------------------------------


def _order(run: RecordedRun) -> list[Places]:
    """The places of each record in each epoch and in the validation packs, as the packs have them."""
    packs = run.step(PACK.name)
    assert packs is not None
    epochs = int(run.info["settings"]["sampling"]["epochs"])
    files: list[list[TableRef]] = [[] for _ in range(epochs + 1)]
    for file in packs.tables(PACKS):
        files[_epoch(file)].append(file)
    files[epochs] = list(packs.tables(VALIDATION_PACKS))
    parts = [id_hashes(as_array(storage.read_parquet(s.path, ["id"])["id"])) for s in run.records.shards]
    hashes = np.concatenate([np.empty(0, np.uint64), *parts])
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    return [_places(some, ordered, order) for some in files]


def _places(files: Sequence[TableRef], ordered: npt.NDArray[np.uint64], order: npt.NDArray[np.int64]) -> Places:
    rows = [np.empty(0, np.uint32)]
    for file in files:
        for chunk in storage.map_arrow(file.path)["ids"].chunks:
            hashes = id_hashes(chunk.flatten())
            rows.append(order[np.searchsorted(ordered, hashes)].astype(np.uint32))
    drawn = np.concatenate(rows)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(drawn, minlength=len(order)))])
    return starts.astype(np.int64), np.argsort(drawn, kind="stable").astype(np.uint32)


def _batches(run: RecordedRun, columns: Sequence[Places]) -> Iterator[list[pa.Array]]:
    first = 0
    for shard in run.records.shards:
        table = storage.read_parquet(shard.path, ["id", "digest"])
        stop = first + shard.rows
        lists = []
        for starts, places in columns:
            offsets = starts[first : stop + 1]
            values = pa.array(places[offsets[0] : offsets[-1]], pa.uint32())
            kind = pa.list_(pa.field("item", pa.uint32(), False))
            lists.append(pa.ListArray.from_arrays(pa.array(offsets - offsets[0], pa.int32()), values, type=kind))
        yield [as_array(table["id"]), as_array(table["digest"]), *lists]
        first = stop
