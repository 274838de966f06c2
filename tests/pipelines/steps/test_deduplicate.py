"""Both steps on real manifests: what goes has a kept twin, and who survives depends on the rows alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dedup.exact import digest128
from dedup.minhash import band_keys, signatures
from dedup.shingles import shingle_hashes
from dedup.similarity import jaccard, shingle_sets
from dedup.tokens import normalise
from pipelines.ledger import storage
from pipelines.ledger.engine import ONE_CPU, Engine, LocalEngine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target
from pipelines.ledger.step import Resources
from pipelines.recipe import ExactDuplicates, NearDuplicates
from pipelines.records import RECORD
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from pipelines.steps.duplicates.near import banding_of, drop_near_duplicates
from pipelines.steps.duplicates.ranges import TaskSizes
from tests.steps import keep, plain_step

Item = TypeVar("Item")
Result = TypeVar("Result")
FINEWEB = NearDuplicates(preset="fineweb")


class Killed(Exception):
    """A task's process died."""


class Faulty:
    """An engine whose tasks die after their work, before anyone hears of it, or are run twice."""

    workers = 1

    def __init__(self, die_after: int = -1, twice: bool = False) -> None:
        self.left, self.twice = die_after, twice

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        for item in items:
            result = work(item)
            if self.left == 0:
                raise Killed
            self.left -= 1
            yield work(item) if self.twice else result


def write(table: pa.Table, target: Target) -> Part:
    return keep(table, target)


def records(ids: list[str], instruction: list[str], response: list[str], source: str = "s") -> pa.Table:
    texts = [pa.array(column, pa.string()) for column in (instruction, response)]
    fixed = [pa.array([value] * len(ids), pa.string()) for value in (source, "direct")]
    return pa.table([pa.array(ids, pa.string()), *fixed, *texts, digest128(*texts)], schema=RECORD)


def given(root: Path, tables: list[pa.Table], engine: Engine | None = None) -> tuple[Run, Manifest]:
    run = Run(str(root), engine or LocalEngine(1))
    return run, run.do(plain_step("given", {}), lambda context: context.map(write, tables))


def kept(manifest: Manifest) -> pa.Table:
    return pa.concat_tables([storage.read_parquet(shard.path) for shard in manifest.shards])


def dropped(manifest: Manifest) -> dict[str, dict[str, object]]:
    tables = [storage.read_parquet(shard.path) for shard in manifest.dropped]
    return {row["id"]: json.loads(row["evidence"]) for table in tables for row in table.to_pylist()}


def ids(manifest: Manifest) -> list[str]:
    return sorted(kept(manifest)["id"].to_pylist())


def drifting(rows: int, seed: int = 0, words: int = 30) -> pa.Table:
    """Texts that are earlier ones with a few words changed: chains of likeness, templates, copies and loners."""
    rng = np.random.default_rng(seed)
    tokens = np.empty((rows, words), np.int64)
    for row in range(rows):
        fresh = row == 0 or rng.random() < 0.1
        tokens[row] = rng.integers(0, 50_000, words) if fresh else tokens[rng.integers(max(0, row - 300), row)]
        tokens[row, rng.integers(0, words, rng.integers(0, 3))] = rng.integers(0, 50_000)
    text = [" ".join(f"w{token}" for token in row) for row in tokens.tolist()]
    return records([f"s/f/{row}" for row in range(rows)], text, [f"answer {row % 3}" for row in range(rows)])


def split(table: pa.Table, shards: int) -> list[pa.Table]:
    borders = [len(table) * i // shards for i in range(shards + 1)]
    return [table.slice(a, b - a) for a, b in pairwise(borders)]


def alike_and_met(table: pa.Table, settings: NearDuplicates) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """bool and Jaccard [rows, rows]: which pairs share a band, and how alike each is."""
    banding = banding_of(settings)
    text = pc.binary_join_element_wise(*(table[name].combine_chunks() for name in settings.fields), "\n")
    shingles = shingle_hashes(text, banding.ngram, banding.unit)
    keys = band_keys(signatures(shingles, banding.num_perm, settings.seed).values, banding.bands, banding.rows)
    rows = len(table)
    met = np.zeros((rows, rows), np.bool_)
    for band in range(banding.bands):
        met |= keys[:, band][:, None] == keys[:, band][None]
    every = np.stack(np.divmod(np.arange(rows * rows), rows), axis=1)
    return met, jaccard(shingle_sets(shingles), every).reshape(rows, rows)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8])
def test_what_goes_has_a_kept_twin_and_what_stays_has_none(tmp_path: Path, threshold: float) -> None:
    settings = NearDuplicates(threshold=threshold)
    table = drifting(600)
    run, parent = given(tmp_path, split(table, 3))
    made = drop_near_duplicates(run, parent, settings, {})
    gone, stay = dropped(made), set(ids(made))
    assert len(gone) > 100 and len(stay) > 60 and len(gone) + len(stay) == 600
    met, alike = alike_and_met(table, settings)
    place = {name: row for row, name in enumerate(table["id"].to_pylist())}
    for name, evidence in gone.items():
        twin = evidence["twin"]
        assert twin in stay
        assert evidence["jaccard"] == pytest.approx(alike[place[name], place[str(twin)]], abs=5e-5)
        assert alike[place[name], place[str(twin)]] >= threshold - 1e-9
    rows = np.array([place[name] for name in stay])
    close = met[np.ix_(rows, rows)] & (alike[np.ix_(rows, rows)] >= threshold) & ~np.eye(len(rows), dtype=np.bool_)
    assert not close.any()


def test_shards_order_workers_and_repeated_tasks_change_nothing(tmp_path: Path) -> None:
    table = drifting(400, seed=1)
    copies = records(["z/1", "z/2"], *[table[name].to_pylist()[:2] for name in ("instruction", "response")])
    table = pa.concat_tables([table, copies])
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(len(table))))
    empty = table.slice(0, 0)
    cases: list[tuple[list[pa.Table], Engine]] = [
        ([table], LocalEngine(1)),
        (split(table, 7), LocalEngine(1)),
        ([empty, *split(shuffled, 3), empty], LocalEngine(1)),
        (split(table, 4), LocalEngine(2)),
        (split(table, 4), Faulty(twice=True)),
    ]
    outcomes = []
    for number, (tables, engine) in enumerate(cases):
        run, parent = given(tmp_path / str(number), tables, engine)
        exact = drop_exact_duplicates(run, parent, ExactDuplicates(), {})
        near = drop_near_duplicates(run, exact, FINEWEB, {})
        outcomes.append((ids(near), dropped(exact), dropped(near)))
        if isinstance(engine, LocalEngine):
            engine.__exit__(None, None, None)
    assert {"z/1", "z/2"} <= set(outcomes[0][1]) and len(outcomes[0][2]) > 50
    assert all(outcome == outcomes[0] for outcome in outcomes[1:])
    whole, twice = ([s.digest for s in kept_shards(tmp_path / n)] for n in ("3", "4"))
    assert whole == twice


def kept_shards(root: Path) -> list[storage.TableRef]:
    run, parent = given(root, [])
    exact = drop_exact_duplicates(run, parent, ExactDuplicates(), {})
    return list(drop_near_duplicates(run, exact, FINEWEB, {}).shards)


def test_a_task_killed_after_its_work_is_not_its_own_duplicate(tmp_path: Path) -> None:
    """Data-Juicer loses the whole block here: the retry meets the keys that the dead task sent."""
    table = drifting(200, seed=2)
    run, parent = given(tmp_path / "whole", split(table, 2))
    whole = drop_near_duplicates(run, drop_exact_duplicates(run, parent, ExactDuplicates(), {}), FINEWEB, {})
    attempts = 0
    while attempts < 50:
        run, parent = given(tmp_path / "killed", split(table, 2))
        try:
            run.engine = Faulty(die_after=1)
            exact = drop_exact_duplicates(run, parent, ExactDuplicates(), {})
            again = drop_near_duplicates(run, exact, FINEWEB, {})
            break
        except Killed:
            attempts += 1
    assert attempts > 1
    assert [shard.digest for shard in again.shards] == [shard.digest for shard in whole.shards]
    assert dropped(again) == dropped(whole)


def test_many_ranges_settle_as_one_does(tmp_path: Path) -> None:
    """Enough keys for several tasks, whose pairs uncover pairs in one another's buckets."""
    rng = np.random.default_rng(3)
    families, size, words = 3_000, 15, 36
    base = rng.integers(0, 10_000, (families, words))
    tokens = np.repeat(base, size, axis=0)
    tokens[np.arange(len(tokens)), rng.integers(0, words, len(tokens))] = rng.integers(0, 10_000, len(tokens))
    columns = [pa.array(tokens[:, i]).cast(pa.string()) for i in range(words)]
    text = pc.binary_join_element_wise(*columns, " ").to_pylist()
    table = records([f"s/{row}" for row in range(len(text))], text, [""] * len(text))
    settings = NearDuplicates(threshold=0.5)
    few = TaskSizes(keys=1 << 18, members=1 << 15, pairs=1 << 14)
    run, parent = given(tmp_path, split(table, 2))
    stay, gone = set(ids(made := drop_near_duplicates(run, parent, settings, {}, sizes=few))), dropped(made)
    place = {name: row for row, name in enumerate(table["id"].to_pylist())}
    # Families share almost no word, so each can be judged alone, by the definition.
    order = sorted(range(len(text)), key=lambda row: (-len(text[row]), f"s/{row}"))
    by_family: list[list[int]] = [[] for _ in range(families)]
    for row in order:
        by_family[row // size].append(row)
    checked = 0
    for rows in by_family[:: families // 60]:
        met, alike = alike_and_met(table.take(pa.array(rows)), settings)
        staying: list[int] = []
        for at in range(size):
            if not any(met[at, other] and alike[at, other] >= 0.5 - 1e-12 for other in staying):
                staying.append(at)
        assert [rows[at] for at in staying] == [row for row in rows if f"s/{row}" in stay]
        checked += size - len(staying)
    assert checked > 100
    assert all(place[str(evidence["twin"])] // size == place[name] // size for name, evidence in gone.items())


def test_the_survivor_is_of_priority_then_score_then_length_then_id(tmp_path: Path) -> None:
    text = " ".join(f"word{n}" for n in range(80))
    rows = [
        ("b", "low", 0.9, text),
        ("a", "low", 0.9, text),
        ("c", "low", 0.9, text + " longer"),
        ("d", "low", 0.95, text),
    ]
    rows.append(("e", "high", 0.1, text))
    table = pa.concat_tables([records([name], [text], ["x"], source) for name, source, _, text in rows])
    table = table.append_column("score_quality", pa.array([score for _, _, score, _ in rows], pa.float32()))
    names = [name for name, _, _, _ in rows]
    for expected in ("e", "d", "c", "a", "b"):
        left = table.filter(pc.is_in(table["id"], pa.array(names)))
        run, parent = given(tmp_path / expected, split(left, 2))
        made = drop_near_duplicates(run, parent, FINEWEB, {"low": 0, "high": 5})
        assert ids(made) == [expected]
        assert all(evidence["twin"] == expected for evidence in dropped(made).values())
        names.remove(expected)
    run, parent = given(tmp_path / "by id", [table])
    assert ids(drop_near_duplicates(run, parent, NearDuplicates(preset="fineweb", keep=("id",)), {})) == ["a"]


def test_short_rows_are_neither_collapsed_nor_ignored(tmp_path: Path) -> None:
    texts = ["Yes.", "Paris", "The answer is 42.", "yes", "…", "!!!", "???", "…"]
    table = records([f"s/{n}" for n in range(len(texts))], texts, [""] * len(texts))
    run, parent = given(tmp_path, [table])
    exact = drop_exact_duplicates(run, parent, ExactDuplicates(), {})
    assert dropped(exact) == {"s/3": {"twin": "s/0"}, "s/7": {"twin": "s/4"}}
    near = drop_near_duplicates(run, exact, FINEWEB, {})
    assert near.rows_dropped == 0 and near.rows_kept == 6


def test_problems_that_differ_in_their_numbers_are_not_exact_duplicates(tmp_path: Path) -> None:
    texts = ["What is 3 + 5?", "What is 41 - 7?", "what is  3 + 5", "What is 3 * 5?", "What is 3.5?", "What is 35?"]
    run, parent = given(tmp_path, [records([f"s/{n}" for n in range(6)], texts, ["it depends"] * 6)])
    assert dropped(drop_exact_duplicates(run, parent, ExactDuplicates(), {})) == {"s/2": {"twin": "s/0"}}


def test_fields_say_what_two_records_must_share(tmp_path: Path) -> None:
    table = records(["a", "b", "c"], ["same question here", "same question here", "other"], ["one", "two", "one"])
    for fields, gone in ((("instruction",), {"b"}), (("response",), {"a"}), (("instruction", "response"), set())):
        run, parent = given(tmp_path / "-".join(fields), [table])
        made = drop_exact_duplicates(run, parent, ExactDuplicates.model_validate({"fields": fields}), {"s": 1})
        assert set(dropped(made)) == gone or (fields == ("response",) and set(dropped(made)) == {"c"})


@pytest.mark.parametrize("sizes", [TaskSizes(), TaskSizes(keys=64, members=32, pairs=16)])
def test_scope_says_whether_a_row_of_another_source_is_a_duplicate(tmp_path: Path, sizes: TaskSizes) -> None:
    """Each text comes twice in source `a` and once in `b`: exactly, or with one word exchanged."""
    words = [[f"word{text}x{word}" for word in range(60)] for text in range(40)]
    columns: dict[str, list[str]] = {"exact": [" ".join(text) for text in words]}
    for name in ("near", "far"):
        columns[name] = [" ".join([*text[:-1], f"{name}{n}"]) for n, text in enumerate(words)]
    for kind, second, other in (("exact", "exact", "exact"), ("near", "near", "far")):
        tables = [
            records([f"{source}/{copy}/{n}" for n in range(40)], columns[texts], ["the same"] * 40, source)
            for source, copy, texts in (("a", 0, "exact"), ("a", 1, second), ("b", 0, other))
        ]
        mixed = pa.concat_tables(tables).take(pa.array(np.random.default_rng(0).permutation(120)))
        left: dict[str, set[str]] = {}
        for scope in ("within", "across"):
            run, parent = given(tmp_path / kind / scope, split(mixed, 3))
            if kind == "exact":
                made = drop_exact_duplicates(
                    run, parent, ExactDuplicates.model_validate({"scope": scope}), {"b": -1}, sizes=sizes
                )
            else:
                settings = NearDuplicates.model_validate({"threshold": 0.7, "scope": scope})
                made = drop_near_duplicates(run, parent, settings, {"b": -1}, sizes=sizes)
            left[scope] = set(ids(made))
            # Whoever goes, goes for its own text; under `within`, for a row of its own source.
            for name, evidence in dropped(made).items():
                twin = str(evidence["twin"])
                assert twin in left[scope] and twin.rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1]
                assert scope == "across" or twin[0] == name[0]
            assert made.rows_kept + made.rows_dropped == 120
        one_each = {n: [name for name in left["across"] if name.rsplit("/", 1)[-1] == str(n)] for n in range(40)}
        assert all(len(stay) == 1 and stay[0].startswith("a/") for stay in one_each.values()), kind
        assert {name for name in left["within"] if name.startswith("b/")} == {f"b/0/{n}" for n in range(40)}
        assert {name for name in left["within"] if name.startswith("a/")} == left["across"]


def test_an_empty_corpus_passes_through(tmp_path: Path) -> None:
    for shards in (1, 3):
        run, parent = given(tmp_path / str(shards), [records([], [], [])] * shards)
        near = drop_near_duplicates(run, drop_exact_duplicates(run, parent, ExactDuplicates(), {}), FINEWEB, {})
        assert near.rows_kept == near.rows_dropped == 0


def test_real_rows_keep_no_exact_copy_and_every_twin(tmp_path: Path, shared_data: Path) -> None:
    import pyarrow.json as pj

    table = pj.read_json(shared_data / "sources/t0_p3_50k.jsonl.gz").slice(0, 6_000)
    given_rows = records(
        [f"t0/{n}" for n in range(len(table))], *(table[c].to_pylist() for c in ("prompt", "completion"))
    )
    run, parent = given(tmp_path, split(given_rows, 3))
    exact = drop_exact_duplicates(run, parent, ExactDuplicates(), {})
    near = drop_near_duplicates(run, exact, FINEWEB, {})
    left = kept(near)
    pairs = list(
        zip(*(normalise(left[c].combine_chunks()).to_pylist() for c in ("instruction", "response")), strict=True)
    )
    assert len(set(pairs)) == len(pairs)
    stay = set(ids(near))
    assert near.rows_dropped > 500
    assert all(
        evidence["twin"] in stay and float(str(evidence["jaccard"])) >= 0.8 for evidence in dropped(near).values()
    )
