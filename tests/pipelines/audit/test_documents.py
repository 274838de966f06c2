"""Each document about a corpus is accepted by the tool it is for, and says what the ledger knows and no more."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from pathlib import Path

import datasets
import mlcroissant
import pyarrow as pa
import pytest
from huggingface_hub import DatasetCard
from spdx_python_model import v3_0_1 as spdx

from pipelines.errors import CheckFailed, InputError
from pipelines.export import DOCUMENTS, EXPORTS
from pipelines.export.facts import facts
from pipelines.ledger import storage
from pipelines.ledger.manifest import Part
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.storage import TableRef
from pipelines.sources import SOURCES


@pytest.fixture(scope="module")
def exported(fates: RecordedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `hf` export of the run."""
    out = tmp_path_factory.mktemp("hf") / "out"
    EXPORTS["hf"](described(fates), str(out))
    return out


def described(run: RecordedRun) -> RecordedRun:
    """The run, with what its recipe may say about the first of its two sources."""
    info = copy.deepcopy(run.info)
    info["settings"]["sources"][0] |= {
        "home": "https://example.org/mine",
        "licence": "CC-BY-4.0",
        "generators": ["A | <b>model</b>"],
    }
    return run._replace(info=info)


def rows_of(run: RecordedRun) -> pa.Table:
    return pa.concat_tables(storage.read_parquet(shard.path) for shard in run.records.shards).drop_columns(["digest"])


def test_datasets_loads_and_streams_an_hf_export_by_the_configuration_of_its_card(
    tmp_path: Path, fates: RecordedRun, exported: Path
) -> None:
    loaded = datasets.load_dataset(str(exported), split="train", cache_dir=str(tmp_path))
    assert loaded.to_list() == rows_of(fates).to_pylist()
    stream = datasets.load_dataset(str(exported), split="train", streaming=True, cache_dir=str(tmp_path))
    assert [row["id"] for row in stream] == rows_of(fates)["id"].to_pylist()
    assert datasets.get_dataset_config_names(str(exported)) == ["default"]


def test_the_card_is_read_by_the_library_of_the_hub_and_names_licences_counts_and_gaps(exported: Path) -> None:
    card = DatasetCard.load(exported / "README.md")
    header = card.data.to_dict()
    assert header["license"] == ["cc-by-4.0", "unknown"] and header["size_categories"] == ["n<1K"]
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert "language" not in header, "no filter of the recipe names one"
    assert "| mine | 120 |" in card.text and "CC-BY-4.0" in card.text
    assert "A \\| \\<b\\>model\\</b\\>" in card.text, "text of a recipe is no markup"
    assert "- licence of source whole" in card.text and "licence of source mine" not in card.text
    assert "`contamination/test_leak`" in card.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of rdflib and pandas, within mlcroissant
def test_mlcroissant_validates_the_description_and_reads_the_records(
    fates: RecordedRun, exported: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        description = mlcroissant.Dataset(str(exported / "croissant.json"))
        records = list(description.records("records"))
    assert [record["records/id"].decode() for record in records] == rows_of(fates)["id"].to_pylist()
    document = json.loads((exported / "croissant.json").read_text())
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    digests = {one["@id"]: one["sha256"] for one in document["distribution"] if one["@type"] == "cr:FileObject"}
    for name, digest in digests.items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest
    sources = {source["@id"]: source for source in document["prov:wasDerivedFrom"]}
    assert sources["source/mine"]["license"] == "CC-BY-4.0" and "license" not in sources["source/whole"]
    assert sources["source/mine"]["prov:wasAttributedTo"][0]["name"] == "A | <b>model</b>"
    steps = [step["identifier"] for step in document["prov:wasGeneratedBy"]]
    assert steps == [step.key for step in fates.steps]


def test_the_spdx_document_is_read_and_written_by_the_model_of_spdx(tmp_path: Path, fates: RecordedRun) -> None:
    EXPORTS["spdx"](described(fates), str(tmp_path / "out"))
    read = spdx.SHACLObjectSet()
    with (tmp_path / "out" / "corpus.spdx.json").open() as file:
        spdx.JSONLDDeserializer().read(file, read)
    with (tmp_path / "again.json").open("wb") as file:
        spdx.JSONLDSerializer().write(read, file)  # checks that no required property is missing
    packages = {one.name: one for one in read.foreach_type(spdx.dataset_DatasetPackage)}
    corpus = packages[fates.id]
    assert corpus.dataset_datasetType == [spdx.dataset_DatasetType.text] and corpus.builtTime is not None
    assert corpus.dataset_datasetSize == sum(shard.bytes for shard in fates.records.shards)
    (document,) = read.foreach_type(spdx.SpdxDocument)
    assert "releaseTime" in document.comment and "licence of source whole" in document.comment
    relations = {(one.from_, one.relationshipType): one.to for one in read.foreach_type(spdx.Relationship)}
    kind = spdx.RelationshipType
    for package in packages.values():
        assert len(relations[package, kind.hasDeclaredLicense]) == 1
        assert len(relations[package, kind.hasConcludedLicense]) == 1
    (licence,) = relations[packages["mine"], kind.hasDeclaredLicense]
    assert licence.simplelicensing_licenseExpression == "CC-BY-4.0"
    (unknown,) = relations[corpus, kind.hasDeclaredLicense]
    assert unknown == "https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense"
    identities = [one.hashValue for one in packages["whole"].verifiedUsing]
    assert identities == [storage.digest(str(Path(fates.root).parent / "whole.jsonl"))]


def test_the_eu_summary_fills_what_the_ledger_knows_and_leaves_the_rest_to_the_provider(
    tmp_path: Path, fates: RecordedRun
) -> None:
    EXPORTS["eu-summary"](described(fates), str(tmp_path / "out"))
    text = (tmp_path / "out" / "eu-summary.md").read_text()
    sections = {
        one["number"]: one for one in json.loads((tmp_path / "out" / "eu-summary.json").read_text())["sections"]
    }
    numbers = ["1", "1.1", "1.2", "1.3", "2", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "3", "3.1", "3.2", "3.3"]
    assert list(sections) == numbers and all(f" {number} " in text for number in numbers)
    fields = {(number, field["title"]): field for number, one in sections.items() for field in one["fields"]}
    assert fields["1.3", "Size of this corpus"]["value"] == "less than 1 billion tokens"
    assert fields["2.1", "Data sets"]["value"][0].startswith("mine (mine)")
    assert fields["2.5", "Written by models, and by which"]["value"] == ["mine (mine): A | <b>model</b>"]
    assert "of: whole" in fields["2.5", "Sources whose text may be written by models"]["note"]
    for number in ("1.1", "1.2", "2.3", "2.4", "2.6", "3.2"):
        assert all(field["value"] is None for field in sections[number]["fields"]), "a ledger cannot know this"
    assert text.count("*to be completed by the provider*") == 1 + sum(one["value"] is None for one in fields.values())
    assert "<b>" not in text


@pytest.mark.parametrize("form", DOCUMENTS)
def test_a_document_overwrites_nothing_and_one_that_fails_leaves_nothing(
    tmp_path: Path, fates: RecordedRun, form: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="there is something here already"):
        EXPORTS[form](fates, str(tmp_path / "taken"))
    with pytest.raises(InputError, match="memory://out: an export is written to a local folder"):
        EXPORTS[form](fates, "memory://out")
    records = fates.records
    lost = Part(rows_in=1, files={"records": (TableRef(str(tmp_path / "gone"), 1, "", 1),)})
    reads_rows = form != "openlineage"
    for parts, error in (*([((lost,), (InputError, OSError))] if reads_rows else []), ((), CheckFailed)):
        broken = records.model_copy(update={"parts": parts})
        steps = tuple(broken if step is records else step for step in fates.steps)
        with pytest.raises(error):
            EXPORTS[form](fates._replace(steps=steps), str(tmp_path / "broken"))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_what_the_ledger_does_not_know_is_listed(fates: RecordedRun) -> None:
    known = facts(described(fates))
    assert [source.origin for source in known.sources] == ["public", "private"]
    assert sum(source.rows for source in known.sources) == known.rows == fates.records.rows_kept
    assert not any("source mine" in line for line in known.missing)
    assert sum("source whole" in line for line in known.missing) == 3
    assert known.sources[0].synthetic is True and known.sources[1].synthetic is None


def test_every_source_whose_rows_are_tagged_synthetic_says_who_wrote_it_or_that_it_is_unknown() -> None:
    for source in SOURCES.values():
        if source.generate is None and any("synth" in condition for condition in source.conditions):
            assert source.generators != (), f"{source.name}: models wrote it; name them, or None if its page does not"
