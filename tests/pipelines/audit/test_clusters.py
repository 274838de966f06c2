"""Clusters and look-ups on a real run: what they say is what brute force over the rows says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from dedup.tokens import normalise
from pipelines.audit.clusters import clusters, difference
from pipelines.audit.similar import Found, settings_of, similar
from pipelines.curate import curate
from pipelines.errors import InputError, RunError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import ExactDuplicates, load
from pipelines.records import RECORD
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from tests.steps import keep, plain_step, record_run

RECIPE = """
name: twins
sources: [{name: s, path: part-*.jsonl, condition: direct}]
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 257}
"""


def drifting(rows: int) -> list[str]:
    """Texts that are earlier ones with a few words changed, some of them copies in capitals."""
    rng = np.random.default_rng(0)
    texts: list[list[str]] = []
    for _ in range(rows):
        kind = rng.random()
        if not texts or kind < 0.2:
            texts.append([f"w{word}" for word in rng.integers(0, 50_000, 30)])
            continue
        words = list(texts[rng.integers(max(0, len(texts) - 40), len(texts))])
        if kind < 0.35:
            words = [word.upper() for word in words]
        else:
            words[rng.integers(len(words))] = f"w{rng.integers(0, 50_000)}"
        texts.append(words)
    return [" ".join(words) for words in texts]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """A run over three files of such texts."""
    folder = tmp_path_factory.mktemp("twins")
    texts = drifting(600)
    for part in range(3):
        lines = [json.dumps({"instruction": text, "response": "Yes."}) for text in texts[part::3]]
        (folder / f"part-{part}.jsonl").write_text("\n".join(lines))
    (folder / "twins.yaml").write_text(RECIPE)
    recipe = load(str(folder / "twins.yaml"))
    made = Run(str(folder / "root"), LocalEngine(1))
    return record_run(made, recipe, curate(made, recipe), RECIPE)


def rows(run: RecordedRun, step: str, dropped: bool) -> list[dict[str, Any]]:
    manifest = run.step(step)
    assert manifest is not None
    files = manifest.dropped if dropped else manifest.shards
    return [row for shard in files for row in storage.read_parquet(shard.path).to_pylist()]


def test_every_dropped_duplicate_stands_behind_one_row_that_stays(run: RecordedRun) -> None:
    answer = clusters(run, top=1000, members=1000)
    near = {row["id"]: json.loads(row["evidence"]) for row in rows(run, "near-duplicates", True)}
    exact = {row["id"]: json.loads(row["evidence"])["twin"] for row in rows(run, "exact-duplicates", True)}
    behind = {row: near[twin]["twin"] if twin in near else twin for row, twin in exact.items()}
    assert any(twin in near for twin in exact.values()), "a copy of a row that is near another"
    behind |= {row: evidence["twin"] for row, evidence in near.items()}
    told = {member["id"]: cluster["kept"] for cluster in answer["largest"] for member in cluster["members"]}
    assert told == behind and answer["clusters"] == len(answer["largest"]) == len(set(behind.values()))
    assert answer["rows_dropped"] == {"exact-duplicates": len(exact), "near-duplicates": len(near)}
    kept = {row["id"]: row for row in rows(run, "near-duplicates", False)}
    sizes = Counter(behind.values())
    assert [cluster["rows"] for cluster in answer["largest"]] == sorted((n + 1 for n in sizes.values()), reverse=True)
    for cluster in answer["largest"]:
        assert cluster["instruction"] == kept[cluster["kept"]]["instruction"]
        assert cluster["rows"] == 1 + cluster["exact"] + cluster["near"] == 1 + len(cluster["members"])
        alike = [member["jaccard"] for member in cluster["members"] if member["jaccard"] is not None]
        assert alike == sorted(alike) and len(alike) == cluster["near"]
        for member in cluster["members"]:
            assert member["differs"] if member["instruction"] != cluster["instruction"] else not member["differs"]


def test_only_as_much_is_shown_as_is_asked_for(run: RecordedRun) -> None:
    answer = clusters(run, top=2, members=1)
    every = clusters(run, top=1000, members=1000)
    assert answer["clusters"] == every["clusters"]
    assert [cluster["kept"] for cluster in answer["largest"]] == [one["kept"] for one in every["largest"][:2]]
    assert [c["members"] for c in answer["largest"]] == [one["members"][:1] for one in every["largest"][:2]]


def test_what_differs_is_told_in_words() -> None:
    assert difference("A red car, fast.", "A blue car, fast.") == [("red", "blue")]
    assert difference("same", "same") == []
    assert difference("one two three", "one three") == [("two ", "")]
    far = "and then there was nothing more to say about it"
    assert difference(f"a b {far} c", f"a x {far} d") == [("b", "x"), ("c", "d")]


def test_a_run_that_looked_for_no_duplicates_has_no_clusters(run: RecordedRun) -> None:
    others = tuple(step for step in run.steps if "duplicates" not in step.step)
    with pytest.raises(RunError, match="looks for no duplicates"):
        clusters(run._replace(steps=others))


def test_a_twin_in_an_earlier_run_is_not_taken_for_a_row_of_the_same_id(run: RecordedRun) -> None:
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
    told = clusters(run._replace(steps=(later,)))["largest"]
    assert [(one["kept"], one["against"], one["rows"]) for one in told] == [
        ("s/part-0/0", None, 2),
        ("s/part-0/0", f"exact-duplicates-{earlier.key}", 2),
    ]
    assert [one["instruction"] for one in told] == [fresh["instruction"], old["instruction"]]
    assert [[member["id"] for member in one["members"]] for one in told] == [["s/part-0/2"], ["s/part-0/1"]]


def look_up(run: RecordedRun, text: str, top: int = 10, engine: LocalEngine | None = None) -> tuple[Found, Run]:
    made = Run(run.folder.rsplit("/runs/", 1)[0], engine or LocalEngine(1))
    return similar(made, run.records, text, *settings_of(run, "instruction"), top=top), made


def brute_force(run: RecordedRun, text: str) -> Iterator[tuple[float, str]]:
    """Every row's Jaccard of word 5-grams, by Python's sets."""

    def grams(one: str) -> set[tuple[str, ...]]:
        words = normalise(pa.array([one]))[0].as_py().split(" ")
        return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}

    asked = grams(text)
    for row in rows(run, "near-duplicates", False):
        found = grams(row["instruction"])
        yield len(asked & found) / max(1, len(asked | found)), row["id"]


def test_look_ups_find_what_brute_force_finds(run: RecordedRun) -> None:
    rng = np.random.default_rng(1)
    kept = rows(run, "near-duplicates", False)
    found = missed = 0
    for number in rng.choice(len(kept), 40, replace=False):
        words = kept[number]["instruction"].split(" ")
        for place in rng.choice(len(words), rng.integers(0, 2), replace=False):
            words[place] = "changed"
        text = " ".join(words)
        every = {name: value for value, name in brute_force(run, text)}
        answer = look_up(run, text)[0]
        assert answer.rows == len(kept)
        assert [m.jaccard for m in answer.matches] == sorted((m.jaccard for m in answer.matches), reverse=True)
        for match in answer.matches:
            assert match.jaccard == pytest.approx(every[match.row["id"]], abs=1e-6)
        near = {name for name, value in every.items() if value >= 0.65}
        found += len(near & {match.row["id"] for match in answer.matches})
        missed += len(near - {match.row["id"] for match in answer.matches})
    assert found >= 30 and missed == 0


def test_a_second_look_up_reads_the_index_and_the_shards_that_it_needs_and_no_more(run: RecordedRun) -> None:
    here = pl.read_parquet(run.records.shards[0].path).to_dicts()
    wanted = next(row for row in here if sum(value > 0 for value, _ in brute_force(run, row["instruction"])) == 1)
    first, _ = look_up(run, wanted["instruction"])
    assert [(match.row["id"], match.jaccard) for match in first.matches] == [(wanted["id"], 1)]
    other = Path(run.records.shards[-1].path)
    aside = other.rename(other.with_suffix(".aside"))
    try:
        again, made = look_up(run, wanted["instruction"])
        assert made.results[0].reused and again == first
        assert look_up(run, " ".join(f"x{n}" for n in range(30)))[0].matches == []
    finally:
        aside.rename(other)


def test_any_number_of_workers_gives_the_same_answer(run: RecordedRun) -> None:
    text = rows(run, "near-duplicates", False)[5]["response"] + " w1 w2 w3 w4 w5 w6"
    with LocalEngine(2) as engine:
        assert look_up(run, text, engine=engine)[0] == look_up(run, text)[0]


def test_a_text_without_an_ngram_is_refused(run: RecordedRun) -> None:
    with pytest.raises(InputError, match="too short: rows are compared by runs of 5 words"):
        look_up(run, "three words only")
