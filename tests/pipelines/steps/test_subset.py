"""A corpus is cut to a number of tokens, exactly within one row, whatever the order of rows and shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.audit.why import why
from pipelines.check import check
from pipelines.curate import Corpus, curate
from pipelines.errors import RecipeError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import open_run, record, run_id
from pipelines.recipe import Recipe, of_values
from pipelines.steps.products import TOKENIZER_JSON

ROWS = 300


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Corpus]:
    folder = tmp_path_factory.mktemp("subset")
    with (folder / "rows.jsonl").open("w") as file:
        for n in range(ROWS):
            print(json.dumps({"q": f"Count to {n}.", "a": answer(n)}), file=file)
    return folder, build(folder, recipe(folder))


def answer(n: int) -> str:
    """Every 50th is empty, and is dropped when the corpus is encoded."""
    return "" if n % 50 == 0 else " ".join(map(str, range(n % 40 + 1)))


def recipe(folder: Path, **more: Any) -> Recipe:
    columns = {"instruction": "q", "response": "a"}
    source = {"name": "counts", "path": str(folder / "rows.jsonl"), "columns": columns, "condition": "direct"}
    values = {"name": "counts", "sources": [source], "near_duplicates": False, "exact_duplicates": False}
    return of_values({**values, "tokenizer": {"vocab_size": 600}, "sampling": {"context": 65}, **more})


def build(folder: Path, of: Recipe) -> Corpus:
    with LocalEngine() as engine:
        run = Run(str(folder / "root"), engine)
        corpus = curate(run, of)
        record(run.root, of.name, "", of.model_dump(mode="json"), corpus.products, run.results)
        return corpus


def cut(base: tuple[Path, Corpus], **subset: Any) -> Corpus:
    folder, corpus = base
    assert corpus.tokenizer is not None
    tokenizer = {"path": corpus.tokenizer.file(TOKENIZER_JSON).path}
    return build(folder, recipe(folder, subset=subset, tokenizer=tokenizer))


def lengths(corpus: Corpus) -> dict[str, int]:
    """id -> tokens, as the context holds them."""
    assert corpus.tokens is not None
    table = pa.concat_tables([storage.map_arrow(shard.path) for shard in corpus.tokens.shards])
    return {row["id"]: min(len(row["instruction"]) + len(row["response"]), 65) for row in table.to_pylist()}


def test_the_tokens_are_those_asked_for_within_one_row(base: tuple[Path, Corpus]) -> None:
    all_rows = lengths(base[1])
    for keep in ("random", "longest"):
        for tokens in (1000, 4321):
            kept = lengths(cut(base, tokens=tokens, keep=keep))
            assert tokens - max(all_rows.values()) < sum(kept.values()) <= tokens
            assert all(all_rows[name] == size for name, size in kept.items())


def test_the_longest_rows_are_those_with_the_most_tokens(base: tuple[Path, Corpus]) -> None:
    kept, every = lengths(cut(base, tokens=3000, keep="longest")), lengths(base[1])
    assert min(kept.values()) >= max(size for name, size in every.items() if name not in kept)


def test_a_random_set_is_like_the_corpus_and_another_with_another_seed(base: tuple[Path, Corpus]) -> None:
    one, other = (lengths(cut(base, tokens=4000, seed=seed)) for seed in (0, 1))
    every = lengths(base[1])
    assert abs(np.mean(list(one.values())) - np.mean(list(every.values()))) < 6
    assert 0.1 < len(one.keys() & other.keys()) / len(one) < 0.9


def test_a_smaller_random_set_is_part_of_a_larger_one(base: tuple[Path, Corpus]) -> None:
    small, large = (lengths(cut(base, tokens=tokens)) for tokens in (1500, 4000))
    assert small.keys() < large.keys()


def test_a_row_that_is_left_out_has_its_reason_and_rows_are_conserved(base: tuple[Path, Corpus]) -> None:
    corpus = cut(base, tokens=2000)
    step = corpus.steps["subset"]
    assert corpus.packs is not None
    assert step.rows_in == ROWS == (step.rows_kept or 0) + (step.rows_dropped or 0)
    assert list(step.reasons) == ["subset/not_in_subset"]
    dropped = storage.read_parquet(step.dropped[0].path).to_pylist()[0]
    fate = why(open_run(str(base[0] / "root"), run_id("counts", corpus.packs)), dropped["id"])
    assert (fate.history[-1].step, fate.history[-1].reason) == ("subset", "not_in_subset")


def test_a_corpus_that_fits_is_kept_whole(base: tuple[Path, Corpus]) -> None:
    assert cut(base, tokens=10**9).steps["subset"].rows_kept == ROWS


def test_a_recipe_without_a_subset_has_no_such_step(base: tuple[Path, Corpus]) -> None:
    assert "subset" not in base[1].steps


def test_a_subset_without_a_given_tokenizer_is_refused_before_the_build(base: tuple[Path, Corpus]) -> None:
    with pytest.raises(RecipeError, match=r"name one as `tokenizer\.path`"):
        check(recipe(base[0], subset={"tokens": 100}))
