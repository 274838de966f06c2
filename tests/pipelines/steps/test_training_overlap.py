"""The overlap of training rows: only rows that an epoch draws count, and all of them do."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipelines.curate import STEPS, Corpus, curate
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.recipe import load
from pipelines.steps.training_overlap import read_trained_items

RECIPE = """
name: small
sources:
  - {{name: generated_web, adapter: generated_web, rows: 1500}}
near_duplicates: false
contamination: {{drop: {drop}, benchmarks: [{{name: generated, rows: 120}}]}}
tokenizer: {{vocab_size: 512}}
sampling: {{epochs: 1, context: 129, validation: 0, groups: [{{prefix: generated_web, max_per_file: {rows}}}]}}
"""


def build(folder: Path, drop: str, rows: int) -> Corpus:
    folder.mkdir()
    (folder / "small.yaml").write_text(RECIPE.format(drop=drop, rows=rows))
    run = Run(str(folder / "root"), LocalEngine(1))
    return curate(run, load(str(folder / "small.yaml")))


def drawn(corpus: Corpus) -> set[str]:
    """The ids in the training packs."""
    assert corpus.packs is not None
    tables = [storage.map_arrow(file.path)["ids"].combine_chunks().flatten() for file in corpus.packs.files("packs")]
    return {one for table in tables for one in table.to_pylist()}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus that keeps leaks, of which an epoch draws 300 rows."""
    return build(tmp_path_factory.mktemp("few") / "a", "[]", 300)


def leaks(corpus: Corpus) -> pl.DataFrame:
    files = corpus.steps["contamination"].files("hits")
    hits = pl.concat([pl.DataFrame(storage.read_parquet(file.path)) for file in files])
    return hits.filter(pl.col("class") == "test_leak")


def test_items_of_rows_that_are_drawn_are_found(few: Corpus) -> None:
    value = read_trained_items(few.steps["training-overlap"], "generated")
    assert value is not None
    rows = drawn(few)
    held = leaks(few).filter(pl.col("row").is_in(list(rows)))["item"].unique().to_list()
    assert set(value["found"]) == set(held) and held
    assert value["rows"] == len(rows)
    assert value["items"] == 120 and not set(value["found"]) & set(value["not_found"])
    assert len(value["found"]) + len(value["not_found"]) == 120


def test_items_of_rows_that_no_epoch_draws_are_not_found(few: Corpus) -> None:
    value = read_trained_items(few.steps["training-overlap"], "generated")
    (checked,) = [storage.read_json(file.path) for file in few.steps["contamination"].files("clean_ids")]
    assert value is not None and set(value["found"]) < set(checked["contaminated"])
    for length in ("13", "20"):
        assert all(share <= checked["overlap"][length][item] for item, share in value["overlap"][length].items())
        assert sum(value["overlap"][length].values()) < sum(checked["overlap"][length].values())


def test_items_of_rows_that_were_dropped_are_not_found(tmp_path: Path) -> None:
    corpus = build(tmp_path / "a", "[test_leak]", 300)
    value = read_trained_items(corpus.steps["training-overlap"], "generated")
    (checked,) = [storage.read_json(file.path) for file in corpus.steps["contamination"].files("clean_ids")]
    assert value is not None and value["found"] == [] and checked["contaminated"]


def test_it_is_the_last_step() -> None:
    assert STEPS[-1].name == "training-overlap"
