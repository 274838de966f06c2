"""A manifest lists the exact corpus; from it and the sources alone the same packs are made, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from flows.build import BuildAnswer, build
from flows.cli.audit import _diff_manifests
from flows.cli.render_manifest import manifest_diff_lines
from pipelines.audit.manifest_diff import diff_manifests
from pipelines.audit.verify import verify
from pipelines.errors import CheckFailed, InputError, WinnowError
from pipelines.export import EXPORTS
from pipelines.ledger import corpus_manifest, storage
from pipelines.ledger.corpus_manifest import CorpusManifest
from pipelines.ledger.runs import RecordedRun, open_run
from pipelines.recipe import load
from pipelines.steps.pack import pack_files


@pytest.fixture(scope="module")
def manifest(fates: RecordedRun, tmp_path_factory: pytest.TempPathFactory) -> CorpusManifest:
    """The manifest of the run, without its sources."""
    out = tmp_path_factory.mktemp("manifest") / "out"
    EXPORTS["manifest"](fates, str(out))
    return CorpusManifest(str(out))


@pytest.fixture(scope="module")
def sources(fates: RecordedRun) -> Path:
    """The folder of the run's sources."""
    return Path(fates.root).parent


def rebuild(
    manifest: CorpusManifest, root: Path, data: Path, *sources: str, settings: tuple[str, ...] = ()
) -> BuildAnswer:
    placed = manifest.settings(str(data), sources)
    return build(manifest.path, str(root), "local", 1, (*placed, *settings))


def packs_of(run: RecordedRun) -> list[str]:
    packs = run.step("pack")
    assert packs is not None
    return [file.digest for file in pack_files(packs)]


def copy(sources: Path, folder: Path, change: Callable[[list[str]], list[str]] = list) -> Path:
    """The sources in another folder, the rows of `mine` changed."""
    folder.mkdir()
    (folder / "whole.jsonl").write_bytes((sources / "whole.jsonl").read_bytes())
    lines = (sources / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(change(lines)))
    return folder


def test_a_manifest_has_ids_digests_and_the_order_of_each_epoch_and_no_text(
    fates: RecordedRun, manifest: CorpusManifest
) -> None:
    table = pa.Table.from_batches(list(manifest))
    corpus = pa.concat_tables(storage.read_parquet(shard.path) for shard in fates.records.shards)
    assert table["id"].to_pylist() == corpus["id"].to_pylist()
    assert table["digest"].to_pylist() == corpus["digest"].to_pylist()
    orders: dict[str, list[str]] = {}
    packs = fates.step("pack")
    assert packs is not None
    for file in pack_files(packs):
        read = storage.map_arrow(file.path)
        own = json.loads(read.schema.metadata[b"winnow"])
        name = "validation" if own["split"] == "validation" else f"epoch_{own['epoch']}"
        orders.setdefault(name, []).extend(np.concatenate(read["ids"].to_pylist()).tolist())
    assert set(orders) == {"epoch_0", "epoch_1", "validation"}
    for name, order in orders.items():
        places = {place: row["id"] for row in table.to_pylist() for place in row[name]}
        assert [places[place] for place in range(len(places))] == order
    assert manifest.head.epochs == tuple(len(orders[f"epoch_{epoch}"]) for epoch in range(2))
    assert "Explain it" not in str(table.to_pylist()) + manifest.head.model_dump_json()
    assert str(Path(fates.root).parent) not in manifest.head.model_dump_json(), "no path of this machine"
    assert {source.name: source.rows for source in manifest.head.sources} == dict(
        pl.Series(corpus["source"].to_pylist()).value_counts().iter_rows()
    )


def test_the_packs_are_rebuilt_byte_for_byte_from_sources_elsewhere_without_the_benchmark(
    tmp_path: Path, fates: RecordedRun, manifest: CorpusManifest, sources: Path
) -> None:
    answer = rebuild(manifest, tmp_path / "root", copy(sources, tmp_path / "data"))
    again = open_run(str(tmp_path / "root"), answer.run)
    assert packs_of(again) == packs_of(fates)
    assert answer.manifest is not None and answer.manifest.files == len(packs_of(fates))
    assert [step.name for step in answer.steps if "duplicates" in step.name or "contamination" in step.name] == []
    rows = [shard.digest for shard in fates.records.shards], [shard.digest for shard in again.records.shards]
    assert rows[0] == rows[1], "the text records are the same too"
    dropped = again.step("manifest-rows")
    assert dropped is not None and set(dropped.reasons) == {"manifest/not_listed"}
    assert load(str(Path(again.folder) / "recipe.yaml")).manifest == manifest.path
    EXPORTS["manifest"](again, str(tmp_path / "again"))
    assert diff_manifests(manifest, CorpusManifest(str(tmp_path / "again"))).total == 0


def test_rows_in_renamed_and_divided_files_are_found_by_their_text(
    tmp_path: Path, fates: RecordedRun, manifest: CorpusManifest, sources: Path
) -> None:
    data = copy(sources, tmp_path / "data")
    lines = (data / "rows.jsonl").read_text().splitlines(keepends=True)
    (data / "parts").mkdir()
    # The second half is first, and rows have other numbers.
    (data / "parts/a.jsonl").write_text("".join(lines[60:]))
    (data / "parts/b.jsonl").write_text("".join(lines[:60]))
    answer = rebuild(manifest, tmp_path / "root", data, f"mine={data / 'parts'}")
    again = open_run(str(tmp_path / "root"), answer.run)
    assert packs_of(again) == packs_of(fates)
    verify(again)


def test_rows_that_changed_are_named_by_source_and_what_became_of_them(
    tmp_path: Path, manifest: CorpusManifest, sources: Path
) -> None:
    def change(lines: list[str]) -> list[str]:
        lines[20] = lines[20].replace("added", "summed")
        lines[21] = json.dumps({"q": "Where?", "a": "https://a.example https://b.example"}) + "\n"
        lines[22] = '{"q": "cut\n'
        return lines[:110]

    data = copy(sources, tmp_path / "data", change)
    with pytest.raises(CheckFailed) as failed:
        rebuild(manifest, tmp_path / "root", data)
    said = str(failed.value)
    assert "source 'mine': 1 changed, 2 dropped" in said and "files that differ: rows" in said
    assert "'whole'" not in said
    differences = pl.read_parquet(said.rpartition(": ")[2])
    known = {row["id"]: (row["problem"], row["now"]) for row in differences.iter_rows(named=True)}
    assert known.pop("mine/rows/20") == ("changed", "")
    assert known.pop("mine/rows/21") == ("dropped", "refine: urls/urls_only")
    assert known.pop("mine/rows/22") == ("dropped", "ingest: conform/broken_json")
    listed = pa.Table.from_batches(list(manifest))["id"].to_pylist()
    assert known == {name: ("missing", "") for name in listed if int(name.split("/")[2]) >= 110}


@pytest.mark.parametrize(
    ("setting", "cause"),
    [("seed=7", "`seed` is 7, in the manifest 0"), ("sampling.validation=0.3", "`sampling` is")],
)
def test_a_build_with_other_settings_fails_and_names_them(
    tmp_path: Path, manifest: CorpusManifest, sources: Path, setting: str, cause: str
) -> None:
    with pytest.raises(CheckFailed, match=cause):
        rebuild(manifest, tmp_path / "root", sources, settings=(setting,))


def test_a_missing_source_is_named_with_the_option_that_gives_its_place(
    tmp_path: Path, manifest: CorpusManifest
) -> None:
    with pytest.raises(InputError, match=r"source 'mine'.*rows\.jsonl: no such file.*--source mine=PATH"):
        build(manifest.path, str(tmp_path / "root"), "local", 1)
    with pytest.raises(WinnowError, match="has no source 'nine'; did you mean 'mine'"):
        manifest.settings(None, ["nine=x"])
    with pytest.raises(WinnowError, match="write NAME=PATH"):
        manifest.settings(None, ["mine"])


@pytest.mark.fault("a damaged or newer manifest of a corpus", "refused by name")
def test_a_damaged_or_newer_manifest_is_refused(tmp_path: Path, manifest: CorpusManifest) -> None:
    data = Path(manifest.path).read_bytes()
    path = tmp_path / "manifest.arrow"
    for damaged in (b"", data[: len(data) // 2], b"ARROW1\0\0" + data[8:-40] + bytes(40)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=str(path)):
            CorpusManifest(str(path))
    path.write_bytes(data.replace(b'"format": 2', b'"format": 9'))
    with pytest.raises(InputError, match="written by a newer Winnow"):
        CorpusManifest(str(path))
    with pa.ipc.new_file(str(path), pa.schema([("id", pa.string())])):
        pass
    assert not corpus_manifest.is_manifest(str(path))
    with pytest.raises(InputError, match="no manifest"):
        CorpusManifest(str(path))


def rewritten(manifest: CorpusManifest, path: Path, table: pa.Table, **head: object) -> CorpusManifest:
    """A manifest with other rows, in one batch, under the same head but for some keys."""
    own = {**manifest.head.model_dump(mode="json"), **head}
    form = table.schema.with_metadata({b"winnow.manifest": json.dumps(own).encode()})
    with pa.ipc.new_file(str(path), form) as writer:
        writer.write_batch(table.cast(form).combine_chunks().to_batches()[0])
    return CorpusManifest(str(path))


def swapped(table: pa.Table) -> pa.Table:
    order = np.arange(table.num_rows)
    order[[3, 4]] = 4, 3
    return table.set_column(0, table.schema.field("id"), table["id"].take(pa.array(order)))


def moved_place(table: pa.Table) -> pa.Table:
    places = table["epoch_0"].to_pylist()
    first = next(row for row in places if row)
    first[0] += 1
    return table.set_column(2, table.schema.field(2), pa.array(places, table.schema.field(2).type))


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda table: table.slice(0, 50), r"cut or edited: 50 rows, its head says \d+"),
        (swapped, "cut or edited: the digest of its rows"),
        (moved_place, r"cut or edited: epoch_0 has \d+ places, \d+ of them different"),
        (lambda table: table, "cut or edited: the digest of its rows"),  # the shards are joined to one
    ],
)
def test_a_manifest_that_was_cut_or_edited_is_refused_before_anything_is_built_or_compared(
    tmp_path: Path,
    manifest: CorpusManifest,
    sources: Path,
    edit: Callable[[pa.Table], pa.Table],
    problem: str,
) -> None:
    manifest.check()
    assert manifest.shards > 1
    edited = rewritten(manifest, tmp_path / "manifest.arrow", edit(pa.Table.from_batches(list(manifest))))
    with pytest.raises(InputError, match=problem):
        rebuild(edited, tmp_path / "root", sources)
    assert not (tmp_path / "root/steps").exists()
    with pytest.raises(InputError, match=problem):
        diff_manifests(manifest, edited)


def test_equal_packs_with_other_orders_are_a_contradiction(tmp_path: Path, manifest: CorpusManifest) -> None:
    table = swapped(pa.Table.from_batches(list(manifest)))
    content = corpus_manifest.content_digest(batch.columns for batch in table.combine_chunks().to_batches())
    forged = rewritten(manifest, tmp_path / "manifest.arrow", table, content=content)
    answer = diff_manifests(manifest, forged)
    assert answer.packs and answer.contradiction
    assert "byte for byte" not in "\n".join(manifest_diff_lines(answer))
    with pytest.raises(CheckFailed, match="contradicts itself"):
        _diff_manifests(manifest.path, forged.path, False, True)


def test_manifests_differ_by_row_source_and_order(tmp_path: Path, manifest: CorpusManifest, sources: Path) -> None:
    def change(lines: list[str]) -> list[str]:
        lines[20] = lines[20].replace("added", "summed")
        return [*lines[:30], json.dumps({"q": "Who is there?", "a": "It is a new row."}) + "\n", *lines[31:]]

    data = copy(sources, tmp_path / "data", change)
    recipe = (sources / "recipe.yaml").read_text().replace("epochs: 2", "epochs: 3")
    (data / "recipe.yaml").write_text(recipe)
    answer = build(str(data / "recipe.yaml"), str(tmp_path / "root"), "local", 1)
    EXPORTS["manifest"](open_run(str(tmp_path / "root"), answer.run), str(tmp_path / "out"))
    difference = diff_manifests(manifest, CorpusManifest(str(tmp_path / "out")), every_row=True)
    changes = {(row.id, row.change) for row in difference.rows}
    assert changes == {("mine/rows/20", "changed"), ("mine/rows/30", "changed")}
    (source,) = difference.sources
    assert (source.name, source.changed, source.files) == ("mine", 2, ("rows",))
    assert difference.recipe == {"sampling.epochs": (2, 3)} and not difference.packs
    assert difference.orders["epoch_2"] is False
    same = diff_manifests(manifest, manifest)
    assert same.total == 0 and same.packs and all(same.orders.values()) and not same.sources
    assert not same.contradiction and not difference.contradiction
