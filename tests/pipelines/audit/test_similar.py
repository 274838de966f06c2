"""Similar rows of a real run: the answers agree with brute force over the rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dedup.tokens import normalise
from pipelines.audit.similar import SimilarRows, found_share, settings_of, similar
from pipelines.errors import InputError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun


def corpus(run: RecordedRun) -> list[dict[str, Any]]:
    return [row for shard in run.records.shards for row in storage.read_parquet(shard.path).to_pylist()]


def look_up(run: RecordedRun, text: str, top: int = 10, engine: LocalEngine | None = None) -> tuple[SimilarRows, Run]:
    audit = Run(run.root, engine or LocalEngine(1))
    return similar(audit, run.records, text, *settings_of(run, "instruction"), top=top), audit


def brute_force(run: RecordedRun, text: str) -> Iterator[tuple[float, str]]:
    """The Jaccard of word 5-grams of every row, by Python's sets."""

    def ngrams(text: str) -> set[tuple[str, ...]]:
        words = normalise(pa.array([text]))[0].as_py().split(" ")
        return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}

    query = ngrams(text)
    for row in corpus(run):
        grams = ngrams(row["instruction"])
        yield len(query & grams) / max(1, len(query | grams)), row["id"]


def test_answers_have_the_rows_and_the_jaccard_that_brute_force_finds(run: RecordedRun) -> None:
    rng = np.random.default_rng(1)
    kept = corpus(run)
    found = missed = 0
    for number in rng.choice(len(kept), 40, replace=False):
        words = kept[number]["instruction"].split(" ")
        for place in rng.choice(len(words), rng.integers(0, 2), replace=False):
            words[place] = "changed"
        text = " ".join(words)
        jaccard = {name: value for value, name in brute_force(run, text)}
        answer = look_up(run, text)[0]
        assert answer.rows == len(kept) and len(answer.matches) <= answer.candidates
        assert [m.jaccard for m in answer.matches] == sorted((m.jaccard for m in answer.matches), reverse=True)
        for match in answer.matches:
            assert match.jaccard == pytest.approx(jaccard[match.id], abs=1e-6)
        near = {name for name, value in jaccard.items() if value >= 0.65}
        found += len(near & {match.id for match in answer.matches})
        missed += len(near - {match.id for match in answer.matches})
    assert found >= 30 and missed == 0


def test_half_changed_copies_are_found_as_often_as_promised(run: RecordedRun) -> None:
    """Rows of Jaccard 0.4 to 0.6, of which 94 % at least are promised; banding promises 74 % at 0.45."""
    rng = np.random.default_rng(2)
    kept = corpus(run)
    found = missed = 0
    for number in rng.choice(len(kept), 100, replace=False):
        words = kept[number]["instruction"].split(" ")
        for place in rng.choice(len(words), 2, replace=False):
            words[place] = f"changed{place}"
        text = " ".join(words)
        jaccard = {name: value for value, name in brute_force(run, text)}
        expected = {name for name, value in jaccard.items() if 0.4 <= value < 0.6}
        names = {match.id for match in look_up(run, text, top=50)[0].matches}
        found, missed = found + len(expected & names), missed + len(expected - names)
    assert found + missed > 50
    assert found / (found + missed) >= found_share(0.4)


def test_the_promised_share_grows_with_the_jaccard_and_exceeds_that_of_32_bands_of_4() -> None:
    assert [round(found_share(jaccard), 3) for jaccard in (0.3, 0.5, 0.6, 1)] == [0.779, 0.99, 0.999, 1]
    assert found_share(0.5) > 0.87 and found_share(0.6) > 0.988


def test_a_second_query_reuses_the_index_and_reads_only_shards_with_candidates(run: RecordedRun) -> None:
    first_shard = storage.read_parquet(run.records.shards[0].path).to_pylist()
    unique = next(
        row for row in first_shard if sum(value > 0 for value, _ in brute_force(run, row["instruction"])) == 1
    )
    first, _ = look_up(run, unique["instruction"])
    assert [(match.id, match.jaccard) for match in first.matches] == [(unique["id"], 1)]
    last_shard = Path(run.records.shards[-1].path)
    aside = last_shard.rename(last_shard.with_suffix(".aside"))
    try:
        again, audit = look_up(run, unique["instruction"])
        assert audit.results[0].reused and again == first
        assert look_up(run, " ".join(f"x{n}" for n in range(30)))[0].matches == ()
    finally:
        aside.rename(last_shard)


def test_the_number_of_workers_does_not_change_the_answer(run: RecordedRun) -> None:
    text = corpus(run)[5]["response"] + " w1 w2 w3 w4 w5 w6"
    with LocalEngine(2) as engine:
        assert look_up(run, text, engine=engine)[0] == look_up(run, text)[0]


def test_a_text_without_an_ngram_is_refused(run: RecordedRun) -> None:
    with pytest.raises(InputError, match="too short: rows are compared by runs of 5 words"):
        look_up(run, "three words only")
