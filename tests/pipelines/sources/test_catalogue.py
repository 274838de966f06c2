"""Every source is documented, has a sample, and refuses the file of another data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import InputError
from pipelines.records import CONDITIONS, conform
from pipelines.sources import SOURCES
from tests.pipelines.sources.samples.every import RULED, SAMPLES
from tests.pipelines.sources.samples.sample import write

FILES = [source for source in SOURCES.values() if source.read is not None]
COMPUTED = [source for source in SOURCES.values() if source.generate is not None]


@pytest.mark.parametrize("source", FILES, ids=lambda source: source.name)
def test_every_source_that_reads_files_has_a_sample_with_all_of_its_conditions(source: Any) -> None:
    assert any(sample.source == source.name for sample in [*SAMPLES, *RULED]), (
        f"add rows in the schema of {source.name!r} to a file in tests/pipelines/sources/samples"
    )
    conditions = {record[2] for sample in SAMPLES if sample.source == source.name for record in sample.records}
    conditions |= {record[0] for sample in RULED if sample.source == source.name for record in sample.kept.values()}
    assert conditions == set(source.conditions)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_source_has_an_origin_and_a_licence(source: Any) -> None:
    assert source.title and source.home and source.revision and source.licence
    assert (source.read is None) != (source.generate is None)
    assert {tag for condition in source.conditions for tag in condition.split(",")} <= set(CONDITIONS)


@pytest.mark.parametrize(
    "source", [source for source in SOURCES.values() if source.generate], ids=lambda source: source.name
)
def test_a_computed_source_has_the_conditions_that_it_declares(source: Any) -> None:
    kept = [conform(table, "s", "f").kept for table in source.generate(1000, 0)]
    assert {condition for table in kept for condition in table["condition"].to_pylist()} == set(source.conditions)


def sample_file(source: str) -> str:
    """The name of the first sample of a source."""
    return next(sample.file for sample in [*SAMPLES, *RULED] if sample.source == source)


WITH_COLUMNS = [
    source
    for source in FILES
    # Without columns: objects of mixed types, lines, archives, and files without a header.
    if source.name not in ("theoremqa", "self_instruct_seeds")
    and not sample_file(source.name).endswith((".txt", ".tar.gz", ".tsv"))
]


@pytest.mark.parametrize("source", WITH_COLUMNS, ids=lambda source: source.name)
def test_the_error_for_a_file_of_another_data_set_names_its_columns(tmp_path: Path, source: Any) -> None:
    name = sample_file(source.name)
    path = write(tmp_path / name, "colour,size\nred,1\n" if name.endswith(".csv") else [{"colour": "red", "size": "1"}])
    with pytest.raises(InputError, match=rf"{name}: (no column .*colour|neither columns)"):
        list(source.read(str(path)))
