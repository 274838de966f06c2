"""The generated sources: the same rows on every machine, right answers, and defects that the demo's recipe finds."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dedup.columns import as_array
from dedup.invariants import invariants
from dedup.shingles import shingle_hashes
from dedup.similarity import jaccard, shingle_sets
from dedup.tokens import normalise
from filters.stage import apply
from pipelines.benchmarks import BENCHMARKS
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target, commit
from pipelines.ledger.storage import read_parquet
from pipelines.recipe import ExactDuplicates, NearDuplicates, Recipe, load
from pipelines.records import ITEM, RAW, conform
from pipelines.sources import SOURCES
from pipelines.sources.generated import DEFECT_RATES, TASKS, arithmetic, defects, word_problems
from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.items import is_leaked
from pipelines.sources.generated.problem import draw_where, is_held_out
from pipelines.sources.generated.rows import clean, original, table, tables
from pipelines.sources.generated.sudoku import _fits
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from pipelines.steps.duplicates.near import drop_near_duplicates
from tests.steps import decontaminate, plain_step

RECIPE = Path(__file__).parents[3] / "pipelines/recipes/demo.yaml"

DROPPED_BY = {
    "think_unclosed": {"thinking/thinking_unclosed"},
    "refusal": {"refusal/refusal", "refusal/ai_disclaimer"},
    "truncated": {"truncated/open_ending", "truncated/dangling_word"},
    "loop": {"loop/repeated_words", "loop/repeated_tail"},
    "other_language": {"language/other_language", "script/wrong_script"},
    "control_characters": {"control/control_characters", "control/replacement_characters"},
    "empty": {"placeholder/empty_response", "strip_thinking/empty_response"},
    "placeholder": {"placeholder/placeholder"},
    "echo": {"echo/echo", "echo/echo_first"},
    "only_urls": {"urls/urls_only"},
    "null_response": {"conform/null_response"},
    "null_instruction": {"conform/null_instruction"},
    "unknown_condition": {"conform/unknown_condition"},
}
STRIPPED = ("think", "think_nested", "think_orphan", "think_marked", "think_output")
DUPLICATES = ("exact_duplicate", "near_duplicate")
LEAKS = ("leak_verbatim", "leak_wrapped", "leak_embedded")


class Demo(NamedTuple):
    """The demo's rows: as read, as kept by its stages, why others were dropped, and the defect of every row, by id."""

    recipe: Recipe
    raw: dict[str, pa.Table]
    kept: pa.Table
    reasons: dict[str, str]
    labels: dict[str, str]


@pytest.fixture(scope="module")
def demo() -> Demo:
    recipe = load(str(RECIPE))
    raw, kept, reasons, labels = {}, [], {}, {}
    for source in recipe.sources:
        assert source.rows is not None
        raw[source.name] = pa.concat_tables(tables(TASKS[source.name], source.rows, recipe.seed))
        for number, label in enumerate(defects(source.name, source.rows, recipe.seed)):
            labels[f"{source.name}/generated/{number}"] = label
        records = conform(raw[source.name], source.name, "generated")
        refined = apply(recipe.stages, records.kept)
        for dropped in (records.dropped, refined.dropped):
            why = pc.binary_join_element_wise(dropped["stage"], dropped["reason"], "/")
            reasons |= dict(zip(dropped["id"].to_pylist(), why.to_pylist(), strict=True))
        kept.append(refined.kept)
    return Demo(recipe, raw, pa.concat_tables(kept).combine_chunks(), reasons, labels)


def _labels(demo: Demo, ids: pa.ChunkedArray) -> list[str]:
    return [demo.labels[row_id] for row_id in ids.to_pylist()]


def _texts(demo: Demo) -> pa.StringArray:
    return pc.binary_join_element_wise(demo.kept["instruction"], demo.kept["response"], "\n").combine_chunks()


DIGEST = """
import hashlib
from pipelines.sources.generated import TASKS
from pipelines.sources.generated.rows import table

digest = hashlib.blake2b(digest_size=16)
for name in sorted(TASKS):
    digest.update(repr(table(TASKS[name], 0, 400, 7).to_pylist()).encode())
print(digest.hexdigest())
"""


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
@pytest.mark.fault("another PYTHONHASHSEED", "same rows")
def test_rows_are_the_same_on_every_machine_and_under_every_hash_seed(hash_seed: str) -> None:
    other = subprocess.run(
        [sys.executable, "-c", DIGEST],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=RECIPE.parents[2],
    )
    # Change this only together with the sources' `version`.
    assert other.stdout.strip() == "a66497f715e90ae3f4a353074d1be776"


@pytest.mark.parametrize("name", sorted(TASKS))
def test_any_range_of_rows_can_be_computed_alone(name: str) -> None:
    whole = pa.concat_tables(tables(TASKS[name], 4500, 3))
    assert whole.num_rows == 4500 and whole.schema == RAW
    assert table(TASKS[name], 1990, 2110, 3).equals(whole.slice(1990, 120).combine_chunks())
    assert not table(TASKS[name], 0, 120, 4).equals(whole.slice(0, 120))


def test_the_recipe_reads_every_generated_source_and_at_least_20_000_rows(demo: Demo) -> None:
    assert {source.adapter for source in demo.recipe.sources} == set(TASKS)
    assert all(SOURCES[name].generate is not None for name in TASKS)
    assert sum(table.num_rows for table in demo.raw.values()) >= 20_000


def test_defects_have_the_stated_rates_and_are_not_labelled_in_the_rows(demo: Demo) -> None:
    for name, rates in DEFECT_RATES.items():
        rows = demo.raw[name].num_rows
        seen = Counter(defects(name, rows, demo.recipe.seed))
        assert set(seen) - {""} <= set(rates)
        for kind, share in rates.items():
            expected = rows * share / 1000
            assert abs(seen[kind] - expected) <= 5 * np.sqrt(expected) + 1, (name, kind, seen[kind], expected)
    assert {kind for rates in DEFECT_RATES.values() for kind in rates} == {*DROPPED_BY, *STRIPPED, *DUPLICATES, *LEAKS}
    assert demo.raw["generated_web"].column_names == RAW.names


@pytest.mark.parametrize("kind", sorted(DROPPED_BY))
def test_each_kind_of_defect_is_dropped_for_its_reason(demo: Demo, kind: str) -> None:
    ids = [row_id for row_id, label in demo.labels.items() if label == kind]
    caught = [row_id for row_id in ids if demo.reasons.get(row_id) in DROPPED_BY[kind]]
    assert len(ids) >= 5
    assert len(caught) >= 0.95 * len(ids), Counter(demo.reasons.get(row_id) for row_id in ids)


def test_rows_without_a_defect_are_kept(demo: Demo) -> None:
    rows = [row_id for row_id, label in demo.labels.items() if label in ("", *DUPLICATES, *LEAKS, *STRIPPED)]
    lost = [(row_id, demo.reasons[row_id]) for row_id in rows if row_id in demo.reasons]
    assert len(lost) <= 0.02 * len(rows), lost[:20]


def test_stripping_restores_the_answer_to_which_thinking_was_added(demo: Demo) -> None:
    responses = dict(zip(demo.kept["id"].to_pylist(), demo.kept["response"].to_pylist(), strict=True))
    for row_id, label in demo.labels.items():
        if label in STRIPPED:
            name, _, number = row_id.split("/")
            assert responses[row_id] == clean(TASKS[name], demo.recipe.seed, int(number)).response, row_id


def test_duplicates_repeat_an_earlier_row_without_a_defect(demo: Demo) -> None:
    texts = _texts(demo)
    place = {row_id: number for number, row_id in enumerate(demo.kept["id"].to_pylist())}
    normal = normalise(texts)
    pairs = []
    for row_id, label in demo.labels.items():
        if label in DUPLICATES and row_id not in demo.reasons:
            name, file, number = row_id.split("/")
            repeated = original(TASKS[name], demo.recipe.seed, int(number))
            assert repeated is not None and repeated < int(number)
            other = f"{name}/{file}/{repeated}"
            assert demo.labels[other] == ""
            if label == "exact_duplicate":
                assert normal[place[row_id]] == normal[place[other]]
            else:
                pairs.append((place[row_id], place[other]))
    similarity = jaccard(shingle_sets(shingle_hashes(texts, 5)), np.array(pairs, np.int64))
    assert similarity.min() >= 0.8 and (similarity < 1).mean() > 0.95


def _write(records: pa.Table, source: str, target: Target) -> Part:
    part = records.filter(pc.equal(records["source"], source))
    return commit(apply([], part), part, target)


def _records(run: Run, demo: Demo) -> Manifest:
    """The rows that the stages kept, as a step of the run, one shard per source."""
    wanted = demo.kept.select(["id", "source", "condition", "instruction", "response", "digest"])
    names = [source.name for source in demo.recipe.sources]
    return run.do(plain_step("records", {}, ()), lambda context: context.map(functools.partial(_write, wanted), names))


def test_deduplication_drops_the_copies_and_keeps_problems_from_one_template(demo: Demo, tmp_path: Path) -> None:
    run = Run(str(tmp_path), LocalEngine(1))
    records = _records(run, demo)
    unique = drop_exact_duplicates(run, records, ExactDuplicates(), {})
    distinct = drop_near_duplicates(run, unique, NearDuplicates(), {})
    kept = {row_id for shard in distinct.shards for row_id in read_parquet(shard.path)["id"].to_pylist()}
    for row_id, label in demo.labels.items():
        if label in DUPLICATES:
            name, file, number = row_id.split("/")
            repeated = f"{name}/{file}/{original(TASKS[name], demo.recipe.seed, int(number))}"
            if label == "exact_duplicate":
                assert not {row_id, repeated} <= kept, (row_id, repeated)
    near = [row_id for row_id, label in demo.labels.items() if label == "near_duplicate"]
    names = [row_id.split("/") for row_id in near]
    originals = [f"{n}/{f}/{original(TASKS[n], demo.recipe.seed, int(i))}" for n, f, i in names]
    # A rewording that replaces a number is another answer.
    marks = dict(
        zip(demo.kept["id"].to_pylist(), invariants(as_array(demo.kept["response"])).marks.tolist(), strict=True)
    )
    both = [
        pair
        for pair in zip(near, originals, strict=True)
        if set(pair) <= kept and len({marks[row] for row in pair}) == 1
    ]
    assert len(both) <= 0.05 * len(near), both
    # A row may be dropped as the duplicate of its own copy, but not of another row.
    gone = [
        row for shard in distinct.dropped for row in read_parquet(shard.path).select(["id", "evidence"]).to_pylist()
    ]
    copied = {*originals, *near}
    unlike = [row for row in gone if demo.labels[row["id"]] == "" and row["id"] not in copied]
    assert len(unlike) <= 0.001 * demo.kept.num_rows, unlike


def test_leaks_are_dropped_and_other_rows_are_not(demo: Demo, tmp_path: Path) -> None:
    assert demo.recipe.contamination
    run = Run(str(tmp_path), LocalEngine(1))
    clean_corpus = decontaminate(run, _records(run, demo), demo.recipe.contamination)
    dropped = pa.concat_tables([read_parquet(shard.path) for shard in clean_corpus.dropped])
    gone = set(dropped["id"].to_pylist())
    labels = dict(zip(demo.kept["id"].to_pylist(), _labels(demo, demo.kept["id"]), strict=True))
    leaks = {row_id for row_id, label in labels.items() if label in LEAKS}
    assert len(leaks & gone) >= 0.95 * len(leaks)
    assert len(gone - leaks) <= 0.001 * len(labels), sorted(gone - leaks)[:20]
    named = {
        item for evidence in dropped["evidence"].to_pylist() for item in re.findall(r"generated/\w+/(\d+)", evidence)
    }
    found_items = {number for number in range(300) if is_leaked(number) and str(number) in named}
    assert len(found_items) >= 0.8 * sum(is_leaked(number) for number in range(300))


def test_items_are_held_out_problems_and_one_in_ten_is_leaked() -> None:
    benchmark = BENCHMARKS["generated"].generate
    assert benchmark is not None
    items = benchmark(300, 0)
    assert items.schema == ITEM and len(set(items["id"].to_pylist())) == 300
    assert items.slice(0, 40).equals(benchmark(40, 0))
    assert 0.07 <= np.mean([is_leaked(number) for number in range(300)]) <= 0.13
    words = np.array([len(question.split()) for question in items["question"].to_pylist()])
    assert (words >= 13).mean() >= 0.5 and (words < 13).sum() >= 60
    assert max(len(answer) for answer in items["answer"].to_pylist()) <= 60


def test_no_training_problem_is_held_out() -> None:
    for draw in (arithmetic.draw, word_problems.draw):
        for number in range(500):
            assert not is_held_out(draw_where(draw, Dice("train", number), held_out=False).key)
            assert is_held_out(draw_where(draw, Dice("test", number), held_out=True).key)


def test_every_equation_in_the_steps_holds(demo: Demo) -> None:
    equation = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)\b")
    operations = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}
    checked = 0
    for label, condition, response in zip(
        _labels(demo, demo.kept["id"]),
        demo.kept["condition"].to_pylist(),
        demo.kept["response"].to_pylist(),
        strict=True,
    ):
        if label == "" and "cot" in condition:
            for a, sign, b, answer in equation.findall(response):
                assert operations[sign](int(a), int(b)) == int(answer), response
                checked += 1
    assert checked > 1000


def test_every_sudoku_is_solved_by_its_answer(demo: Demo) -> None:
    rows = demo.kept.filter(pc.equal(demo.kept["source"], "generated_sudoku"))
    for instruction, response in zip(rows["instruction"].to_pylist(), rows["response"].to_pylist(), strict=True):
        puzzle = re.search(r"[0-4]{4} [0-4]{4} [0-4]{4} [0-4]{4}", instruction)
        assert puzzle is not None and all(shown in ("0", full) for shown, full in zip(puzzle[0], response, strict=True))
        grid = response.split(" ")
        assert all(_fits("".join(grid[:number]), grid[number], number) for number in range(4))
