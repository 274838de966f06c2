"""Near-duplicates: dropped rows name a kept row, kept rows are not adjacent, and preferences decide who survives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.recipe import NearDuplicates
from pipelines.steps.duplicates.near import drop_near_duplicates
from pipelines.steps.duplicates.ranges import TaskSizes
from tests.pipelines.steps.duplicates.corpora import (
    FINEWEB,
    REQUEST,
    adjacency,
    drifting,
    dropped,
    given,
    kept_ids,
    records_table,
    split,
    word,
)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8])
def test_dropped_rows_name_an_adjacent_kept_row_and_no_kept_rows_are_adjacent(tmp_path: Path, threshold: float) -> None:
    settings = NearDuplicates(instruction=threshold, response=threshold)
    table = drifting(600, words=60)
    run, parent = given(tmp_path, split(table, 3))
    near = drop_near_duplicates(run, parent, settings, {})
    evidence, kept = dropped(near), set(kept_ids(near))
    assert len(evidence) > 100 and len(kept) > 60 and len(evidence) + len(kept) == 600
    expected = adjacency(table, settings)
    number = {name: row for row, name in enumerate(table["id"].to_pylist())}
    for name, value in evidence.items():
        twin = str(value["twin"])
        assert twin in kept
        assert expected.adjacent[number[name], number[twin]]
        jaccards = expected.jaccard[:, number[name], number[twin]].tolist()
        assert list(value["jaccard"].values()) == pytest.approx(jaccards, abs=1e-4)
        assert list(value["jaccard"]) == ["instruction", "response"]
    rows = np.array([number[name] for name in kept])
    among_kept = np.ix_(rows, rows)
    assert not (expected.adjacent[among_kept] & ~np.eye(len(rows), dtype=np.bool_)).any()


def test_many_tasks_decide_as_the_definition_does(tmp_path: Path) -> None:
    """Enough keys for several tasks, whose pairs make it necessary to compare buckets of other tasks again."""
    rng = np.random.default_rng(3)
    families, size, words = 3_000, 15, 36
    base = rng.integers(0, 10_000, (families, words))
    tokens = np.repeat(base, size, axis=0)
    tokens[np.arange(len(tokens)), rng.integers(0, words, len(tokens))] = rng.integers(0, 10_000, len(tokens))
    vocabulary = np.array([word(number) for number in range(10_000)])
    text = [" ".join(row) + f"\n{REQUEST}" for row in vocabulary[tokens]]
    table = records_table([f"s/{row}" for row in range(len(text))], text, [""] * len(text))
    settings = NearDuplicates(instruction=0.5)
    sizes = TaskSizes(keys=1 << 18, members=1 << 15, pairs=1 << 14)
    run, parent = given(tmp_path, split(table, 2))
    near = drop_near_duplicates(run, parent, settings, {}, sizes=sizes)
    kept, evidence = set(kept_ids(near)), dropped(near)
    number = {name: row for row, name in enumerate(table["id"].to_pylist())}
    # Families share almost no word, so the definition can be applied to each alone.
    survivor_order = sorted(range(len(text)), key=lambda row: (-len(text[row]), f"s/{row}"))
    by_family: list[list[int]] = [[] for _ in range(families)]
    for row in survivor_order:
        by_family[row // size].append(row)
    checked = 0
    for rows in by_family[:: families // 60]:
        adjacent = adjacency(table.take(pa.array(rows)), settings).adjacent
        expected: list[int] = []
        for i in range(size):
            if not any(adjacent[i, j] for j in expected):
                expected.append(i)
        assert [rows[i] for i in expected] == [row for row in rows if f"s/{row}" in kept]
        checked += size - len(expected)
    assert checked > 100
    assert all(number[str(value["twin"])] // size == number[name] // size for name, value in evidence.items())


def test_the_survivor_has_the_highest_priority_then_score_then_length_then_the_least_id(tmp_path: Path) -> None:
    text = " ".join(map(word, range(80)))
    rows = [
        ("b", "low", 0.9, text),
        ("a", "low", 0.9, text),
        ("c", "low", 0.9, "longer " + text),
        ("d", "low", 0.95, text),
    ]
    rows.append(("e", "high", 0.1, text))
    table = pa.concat_tables([records_table([name], [text], ["x"], source) for name, source, _, text in rows])
    table = table.append_column("score_quality", pa.array([score for _, _, score, _ in rows], pa.float32()))
    names = [name for name, _, _, _ in rows]
    for expected in ("e", "d", "c", "a", "b"):
        remaining = table.filter(pc.is_in(table["id"], pa.array(names)))
        run, parent = given(tmp_path / expected, split(remaining, 2))
        near = drop_near_duplicates(run, parent, FINEWEB, {"low": 0, "high": 5})
        assert kept_ids(near) == [expected]
        assert all(value["twin"] == expected for value in dropped(near).values())
        names.remove(expected)
    run, parent = given(tmp_path / "by id", [table])
    by_id = NearDuplicates(preset="fineweb", keep=("id",))
    assert kept_ids(drop_near_duplicates(run, parent, by_id, {})) == ["a"]
