"""Clusters of a real run: they agree with the evidence of its dropped rows."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from pipelines.audit.clusters import clusters
from pipelines.audit.difference import difference
from pipelines.errors import RunError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import ExactDuplicates
from pipelines.records import RECORD
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from tests.steps import keep, plain_step


def rows(run: RecordedRun, step: str, dropped: bool) -> list[dict[str, Any]]:
    manifest = run.step(step)
    assert manifest is not None
    files = manifest.dropped if dropped else manifest.shards
    return [row for shard in files for row in storage.read_parquet(shard.path).to_pylist()]


def test_every_dropped_duplicate_is_in_the_cluster_of_one_kept_row(run: RecordedRun) -> None:
    answer = clusters(run, top=1000, members=1000)
    near = {row["id"]: json.loads(row["evidence"]) for row in rows(run, "near-duplicates", True)}
    exact = {row["id"]: json.loads(row["evidence"])["twin"] for row in rows(run, "exact-duplicates", True)}
    behind = {row: near[twin]["twin"] if twin in near else twin for row, twin in exact.items()}
    assert any(twin in near for twin in exact.values()), "a copy of a row that is near another"
    behind |= {row: evidence["twin"] for row, evidence in near.items()}
    kept_of = {member.id: cluster.kept for cluster in answer.largest for member in cluster.members}
    assert kept_of == behind and answer.clusters == len(answer.largest) == len(set(behind.values()))
    assert answer.rows_dropped == {"exact-duplicates": len(exact), "near-duplicates": len(near)}
    kept = {row["id"]: row for row in rows(run, "near-duplicates", False)}
    sizes = Counter(behind.values())
    assert [cluster.rows for cluster in answer.largest] == sorted((n + 1 for n in sizes.values()), reverse=True)
    for cluster in answer.largest:
        assert cluster.instruction == kept[cluster.kept]["instruction"]
        assert cluster.rows == 1 + cluster.exact + cluster.near == 1 + len(cluster.members)
        jaccards = [min(member.jaccard.values()) for member in cluster.members if member.jaccard is not None]
        assert jaccards == sorted(jaccards) and len(jaccards) == cluster.near
        for member in cluster.members:
            assert bool(member.differs) == (member.instruction != cluster.instruction)


def test_top_and_members_limit_what_is_shown(run: RecordedRun) -> None:
    answer = clusters(run, top=2, members=1)
    every = clusters(run, top=1000, members=1000)
    assert answer.clusters == every.clusters
    assert [cluster.kept for cluster in answer.largest] == [cluster.kept for cluster in every.largest[:2]]
    assert [cluster.members for cluster in answer.largest] == [cluster.members[:1] for cluster in every.largest[:2]]


def test_a_difference_is_a_pair_of_words() -> None:
    assert difference("A red car, fast.", "A blue car, fast.") == [("red", "blue")]
    assert difference("same", "same") == []
    assert difference("one two three", "one three") == [("two ", "")]
    far = "and then there was nothing more to say about it"
    assert difference(f"a b {far} c", f"a x {far} d") == [("b", "x"), ("c", "d")]


def test_a_run_that_removes_no_duplicates_has_no_clusters(run: RecordedRun) -> None:
    others = tuple(step for step in run.steps if "duplicates" not in step.step)
    with pytest.raises(RunError, match="removes no duplicates"):
        clusters(run._replace(steps=others))


def test_a_twin_in_an_earlier_run_is_not_confused_with_a_row_of_the_same_id(run: RecordedRun) -> None:
    """Both runs have a row s/part-0/0: the earlier one's is the twin of the later one's s/part-0/1."""
    root = run.folder.rsplit("/runs/", 1)[0]
    made = Run(root, LocalEngine(1))
    old = rows(run, "exact-duplicates", False)[0]
    fresh = old | {"instruction": " ".join(f"fresh{n}" for n in range(30)), "digest": b"0" * 16}
    again = [fresh, old | {"id": "s/part-0/1", "digest": b"1" * 16}, fresh | {"id": "s/part-0/2", "digest": b"2" * 16}]
    table = pa.Table.from_pylist(again, RECORD)
    given = made.do(
        plain_step("given", {"more": 1}),
        lambda context: context.map(keep, [table]),
    )
    earlier = run.step("exact-duplicates")
    assert earlier is not None and old["id"] == "s/part-0/0"
    later = drop_exact_duplicates(made, given, ExactDuplicates(), {}, against=(earlier,))
    largest = clusters(run._replace(steps=(later,))).largest
    assert [(cluster.kept, cluster.against, cluster.rows) for cluster in largest] == [
        ("s/part-0/0", None, 2),
        ("s/part-0/0", f"exact-duplicates-{earlier.key}", 2),
    ]
    assert [cluster.instruction for cluster in largest] == [fresh["instruction"], old["instruction"]]
    assert [[member.id for member in cluster.members] for cluster in largest] == [["s/part-0/2"], ["s/part-0/1"]]
