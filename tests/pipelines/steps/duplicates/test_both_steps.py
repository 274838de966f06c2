"""Exact and near duplicates one after the other: the result depends on the rows alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dedup.tokens import normalise
from pipelines.ledger import storage
from pipelines.ledger.engine import Engine, LocalEngine
from pipelines.recipe import ExactDuplicates, NearDuplicates
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from pipelines.steps.duplicates.near import drop_near_duplicates
from pipelines.steps.duplicates.ranges import TaskSizes
from tests.pipelines.steps.duplicates.corpora import (
    FINEWEB,
    FaultyEngine,
    TaskDied,
    drifting,
    dropped,
    given,
    kept_ids,
    kept_rows,
    records_table,
    split,
    word,
)


def test_shards_their_order_workers_and_repeated_tasks_do_not_change_the_result(tmp_path: Path) -> None:
    table = drifting(400, seed=1, words=80, fresh_share=0.3)
    copies = records_table(["z/1", "z/2"], *[table[name].to_pylist()[:2] for name in ("instruction", "response")])
    table = pa.concat_tables([table, copies])
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(len(table))))
    empty = table.slice(0, 0)
    cases: list[tuple[list[pa.Table], Engine]] = [
        ([table], LocalEngine(1)),
        (split(table, 7), LocalEngine(1)),
        ([empty, *split(shuffled, 3), empty], LocalEngine(1)),
        (split(table, 4), LocalEngine(2)),
        (split(table, 4), FaultyEngine(twice=True)),
    ]
    outcomes = []
    for number, (tables, engine) in enumerate(cases):
        run, parent = given(tmp_path / str(number), tables, engine)
        exact = drop_exact_duplicates(run, parent, ExactDuplicates(), {})
        near = drop_near_duplicates(run, exact, FINEWEB, {})
        outcomes.append((kept_ids(near), dropped(exact), dropped(near)))
        if isinstance(engine, LocalEngine):
            engine.__exit__(None, None, None)
    assert {"z/1", "z/2"} <= set(outcomes[0][1]) and len(outcomes[0][2]) > 40
    assert all(outcome == outcomes[0] for outcome in outcomes[1:])
    once, twice = ([shard.digest for shard in finished_shards(tmp_path / name)] for name in ("3", "4"))
    assert once == twice


def finished_shards(root: Path) -> list[storage.TableRef]:
    """The shards of a near-duplicate step that is finished below `root`."""
    run, parent = given(root, [])
    exact = drop_exact_duplicates(run, parent, ExactDuplicates(), {})
    return list(drop_near_duplicates(run, exact, FINEWEB, {}).shards)


def test_a_step_that_writes_a_selection_keeps_and_drops_the_same_rows(tmp_path: Path) -> None:
    table = drifting(400, seed=1, words=80, fresh_share=0.3)
    copies = records_table(["z/1", "z/2"], *[table[name].to_pylist()[:2] for name in ("instruction", "response")])
    run, parent = given(tmp_path, split(pa.concat_tables([table, copies]), 4))
    made = []
    for as_text in (True, False):
        exact = drop_exact_duplicates(run, parent, ExactDuplicates(), {}, as_text=as_text)
        near = drop_near_duplicates(run, exact, FINEWEB, {}, as_text=as_text)
        made.append((exact, near))
    for text, selection in zip(*made, strict=True):
        assert text.reasons == selection.reasons and [file.digest for file in text.dropped] == [
            file.digest for file in selection.dropped
        ]
        assert all(
            storage.read_parquet(one.path).equals(storage.read_parquet(other.path).combine_chunks())
            for one, other in zip(text.shards, selection.shards, strict=True)
        )
        assert sum(file.bytes for file in selection.shards) < sum(file.bytes for file in text.shards) / 5


def test_a_retried_task_does_not_see_the_output_of_its_failed_attempt(tmp_path: Path) -> None:
    """Data-Juicer loses the whole block here: the retry finds the keys that the failed attempt sent."""
    table = drifting(200, seed=2, words=80, fresh_share=0.3)
    run, parent = given(tmp_path / "undisturbed", split(table, 2))
    expected = drop_near_duplicates(run, drop_exact_duplicates(run, parent, ExactDuplicates(), {}), FINEWEB, {})
    attempts = 0
    while attempts < 50:
        run, parent = given(tmp_path / "killed", split(table, 2))
        try:
            run.engine = FaultyEngine(die_after=1)
            exact = drop_exact_duplicates(run, parent, ExactDuplicates(), {})
            near = drop_near_duplicates(run, exact, FINEWEB, {})
            break
        except TaskDied:
            attempts += 1
    assert attempts > 1
    assert [shard.digest for shard in near.shards] == [shard.digest for shard in expected.shards]
    assert dropped(near) == dropped(expected)


def test_short_rows_are_neither_collapsed_nor_ignored(tmp_path: Path) -> None:
    texts = ["Yes.", "Paris", "The answer is 42.", "yes", "…", "!!!", "???", "…"]
    table = records_table([f"s/{n}" for n in range(len(texts))], texts, [""] * len(texts))
    run, parent = given(tmp_path, [table])
    exact = drop_exact_duplicates(run, parent, ExactDuplicates(), {})
    assert dropped(exact) == {"s/7": {"twin": "s/4"}}
    near = drop_near_duplicates(run, exact, FINEWEB, {})
    assert {name: value["twin"] for name, value in dropped(near).items()} == {"s/3": "s/0"}
    assert near.rows_kept == 6


@pytest.mark.parametrize("sizes", [TaskSizes(), TaskSizes(keys=64, members=32, pairs=16)])
def test_scope_decides_whether_a_row_of_another_source_is_a_duplicate(tmp_path: Path, sizes: TaskSizes) -> None:
    """Each text occurs twice in source `a` and once in `b`: exactly, or with one word changed."""
    words = [[word(text * 60 + n) for n in range(60)] for text in range(40)]
    columns: dict[str, list[str]] = {"exact": [" ".join(text) for text in words]}
    for name in ("near", "far"):
        columns[name] = [" ".join([f"{name}{word(n)}", *text[1:]]) for n, text in enumerate(words)]
    for kind, second, other in (("exact", "exact", "exact"), ("near", "near", "far")):
        tables = [
            records_table([f"{source}/{copy}/{n}" for n in range(40)], columns[texts], ["the same"] * 40, source)
            for source, copy, texts in (("a", 0, "exact"), ("a", 1, second), ("b", 0, other))
        ]
        shuffled = pa.concat_tables(tables).take(pa.array(np.random.default_rng(0).permutation(120)))
        kept: dict[str, set[str]] = {}
        for scope in ("within", "across"):
            run, parent = given(tmp_path / kind / scope, split(shuffled, 3))
            if kind == "exact":
                result = drop_exact_duplicates(
                    run, parent, ExactDuplicates.model_validate({"scope": scope}), {"b": -1}, sizes=sizes
                )
            else:
                settings = NearDuplicates.model_validate({"instruction": 0.7, "scope": scope})
                result = drop_near_duplicates(run, parent, settings, {"b": -1}, sizes=sizes)
            kept[scope] = set(kept_ids(result))
            # A dropped row names a row of the same text and, with `within`, of the same source.
            for name, evidence in dropped(result).items():
                twin = str(evidence["twin"])
                assert twin in kept[scope] and twin.rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1]
                assert scope == "across" or twin[0] == name[0]
            assert (result.rows_kept or 0) + (result.rows_dropped or 0) == 120
        by_text = {n: [name for name in kept["across"] if name.rsplit("/", 1)[-1] == str(n)] for n in range(40)}
        assert all(len(names) == 1 and names[0].startswith("a/") for names in by_text.values()), kind
        assert {name for name in kept["within"] if name.startswith("b/")} == {f"b/0/{n}" for n in range(40)}
        assert {name for name in kept["within"] if name.startswith("a/")} == kept["across"]


def test_an_empty_corpus_stays_empty(tmp_path: Path) -> None:
    for shards in (1, 3):
        run, parent = given(tmp_path / str(shards), [records_table([], [], [])] * shards)
        near = drop_near_duplicates(run, drop_exact_duplicates(run, parent, ExactDuplicates(), {}), FINEWEB, {})
        assert near.rows_kept == near.rows_dropped == 0


def test_real_rows_keep_no_exact_copy_and_every_named_row(tmp_path: Path, shared_data: Path) -> None:
    import pyarrow.json as pj

    table = pj.read_json(shared_data / "sources/t0_p3_50k.jsonl.gz").slice(34_000, 6_000)
    columns = [table[name].to_pylist() for name in ("prompt", "completion")]
    run, parent = given(tmp_path, split(records_table([f"t0/{n}" for n in range(len(table))], *columns), 3))
    exact = drop_exact_duplicates(run, parent, ExactDuplicates(), {})
    near = drop_near_duplicates(run, exact, FINEWEB, {})
    rows = kept_rows(near)
    texts = [normalise(rows[name].combine_chunks()).to_pylist() for name in ("instruction", "response")]
    pairs = list(zip(*texts, strict=True))
    assert len(set(pairs)) == len(pairs)
    kept = set(kept_ids(near))
    assert (near.rows_dropped or 0) > 500
    assert all(
        evidence["twin"] in kept and min(evidence["jaccard"].values()) >= 0.8 for evidence in dropped(near).values()
    )
