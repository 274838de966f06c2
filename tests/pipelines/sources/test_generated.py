"""The generated sources: the same rows everywhere, right answers, and dirt that the demo's recipe finds."""

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
from pipelines.sources.generated import DIRT, TASKS, arithmetic, dirt, word_problems
from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.items import is_leaked
from pipelines.sources.generated.problem import draw_where, held_out
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
    "empty": {"placeholder/empty_response"},
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


class Made(NamedTuple):
    """The demo's rows: as read, as kept by its stages, why the others went, and every row's label by its id."""

    recipe: Recipe
    raw: dict[str, pa.Table]
    kept: pa.Table
    reasons: dict[str, str]
    labels: dict[str, str]


@pytest.fixture(scope="module")
def made() -> Made:
    recipe = load(str(RECIPE))
    raw, kept, reasons, labels = {}, [], {}, {}
    for source in recipe.sources:
        assert source.rows is not None
        raw[source.name] = pa.concat_tables(tables(TASKS[source.name], source.rows, recipe.seed))
        for number, label in enumerate(dirt(source.name, source.rows, recipe.seed)):
            labels[f"{source.name}/generated/{number}"] = label
        records = conform(raw[source.name], source.name, "generated")
        refined = apply(recipe.stages, records.kept)
        for dropped in (records.dropped, refined.dropped):
            why = pc.binary_join_element_wise(dropped["stage"], dropped["reason"], "/")
            reasons |= dict(zip(dropped["id"].to_pylist(), why.to_pylist(), strict=True))
        kept.append(refined.kept)
    return Made(recipe, raw, pa.concat_tables(kept).combine_chunks(), reasons, labels)


def _labels(made: Made, ids: pa.ChunkedArray) -> list[str]:
    return [made.labels[one] for one in ids.to_pylist()]


def _texts(made: Made) -> pa.StringArray:
    return pc.binary_join_element_wise(made.kept["instruction"], made.kept["response"], "\n").combine_chunks()


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
def test_any_range_of_rows_can_be_made_by_itself(name: str) -> None:
    whole = pa.concat_tables(tables(TASKS[name], 4500, 3))
    assert whole.num_rows == 4500 and whole.schema == RAW
    assert table(TASKS[name], 1990, 2110, 3).equals(whole.slice(1990, 120).combine_chunks())
    assert not table(TASKS[name], 0, 120, 4).equals(whole.slice(0, 120))


def test_the_recipe_reads_every_generated_source_and_at_least_20_000_rows(made: Made) -> None:
    assert {source.adapter for source in made.recipe.sources} == set(TASKS)
    assert all(SOURCES[name].generate is not None for name in TASKS)
    assert sum(one.num_rows for one in made.raw.values()) >= 20_000


def test_labels_come_at_the_stated_rates_and_are_in_no_row(made: Made) -> None:
    for name, rates in DIRT.items():
        rows = made.raw[name].num_rows
        seen = Counter(dirt(name, rows, made.recipe.seed))
        assert set(seen) - {""} <= set(rates)
        for kind, share in rates.items():
            expected = rows * share / 1000
            assert abs(seen[kind] - expected) <= 5 * np.sqrt(expected) + 1, (name, kind, seen[kind], expected)
    assert {kind for rates in DIRT.values() for kind in rates} == {*DROPPED_BY, *STRIPPED, *DUPLICATES, *LEAKS}
    assert made.raw["generated_web"].column_names == RAW.names


@pytest.mark.parametrize("kind", sorted(DROPPED_BY))
def test_each_kind_of_dirt_is_dropped_for_its_reason(made: Made, kind: str) -> None:
    ids = [one for one, label in made.labels.items() if label == kind]
    caught = [one for one in ids if made.reasons.get(one) in DROPPED_BY[kind]]
    assert len(ids) >= 5
    assert len(caught) >= 0.95 * len(ids), Counter(made.reasons.get(one) for one in ids)


def test_clean_rows_stay(made: Made) -> None:
    rows = [one for one, label in made.labels.items() if label in ("", *DUPLICATES, *LEAKS, *STRIPPED)]
    lost = [(one, made.reasons[one]) for one in rows if one in made.reasons]
    assert len(lost) <= 0.02 * len(rows), lost[:20]


def test_stripping_gives_back_the_answer_that_the_thinking_was_put_before(made: Made) -> None:
    responses = dict(zip(made.kept["id"].to_pylist(), made.kept["response"].to_pylist(), strict=True))
    for one, label in made.labels.items():
        if label in STRIPPED:
            name, _, number = one.split("/")
            assert responses[one] == clean(TASKS[name], made.recipe.seed, int(number)).response, one


def test_duplicates_repeat_an_earlier_clean_row(made: Made) -> None:
    texts = _texts(made)
    place = {one: number for number, one in enumerate(made.kept["id"].to_pylist())}
    normal = normalise(texts)
    pairs = []
    for one, label in made.labels.items():
        if label in DUPLICATES:
            name, file, number = one.split("/")
            twin = original(TASKS[name], made.recipe.seed, int(number))
            assert twin is not None and twin < int(number)
            other = f"{name}/{file}/{twin}"
            assert made.labels[other] == ""
            if label == "exact_duplicate":
                assert normal[place[one]] == normal[place[other]]
            else:
                pairs.append((place[one], place[other]))
    similarity = jaccard(shingle_sets(shingle_hashes(texts, 5)), np.array(pairs, np.int64))
    assert similarity.min() >= 0.8 and (similarity < 1).mean() > 0.95


def _write(records: pa.Table, source: str, target: Target) -> Part:
    part = records.filter(pc.equal(records["source"], source))
    return commit(apply([], part), part.num_rows, target)


def _records(run: Run, made: Made) -> Manifest:
    """What the stages kept, as a step of the run, a shard to a source."""
    wanted = made.kept.select(["id", "source", "condition", "instruction", "response", "digest"])
    names = [source.name for source in made.recipe.sources]
    return run.do(plain_step("records", {}, ()), lambda context: context.map(functools.partial(_write, wanted), names))


def test_deduplication_takes_the_copies_and_leaves_problems_that_share_a_frame(made: Made, tmp_path: Path) -> None:
    run = Run(str(tmp_path), LocalEngine(1))
    records = _records(run, made)
    unique = drop_exact_duplicates(run, records, ExactDuplicates(), {})
    distinct = drop_near_duplicates(run, unique, NearDuplicates(threshold=0.8), {})
    left = {one for shard in distinct.shards for one in read_parquet(shard.path)["id"].to_pylist()}
    for one, label in made.labels.items():
        if label in DUPLICATES:
            name, file, number = one.split("/")
            twin = f"{name}/{file}/{original(TASKS[name], made.recipe.seed, int(number))}"
            if label == "exact_duplicate":
                assert not {one, twin} <= left, (one, twin)
    near = [one for one, label in made.labels.items() if label == "near_duplicate"]
    names = [one.split("/") for one in near]
    twins = [f"{n}/{f}/{original(TASKS[n], made.recipe.seed, int(i))}" for n, f, i in names]
    both = [pair for pair in zip(near, twins, strict=True) if set(pair) <= left]
    assert len(both) <= 0.05 * len(near), both
    # A clean row may go for its dirty copy, but not for another clean row.
    gone = [
        row for shard in distinct.dropped for row in read_parquet(shard.path).select(["id", "evidence"]).to_pylist()
    ]
    copied = {*twins, *near}
    unlike = [row for row in gone if made.labels[row["id"]] == "" and row["id"] not in copied]
    assert len(unlike) <= 0.001 * made.kept.num_rows, unlike


def test_leaks_are_dropped_and_clean_rows_are_not_taken_for_leaks(made: Made, tmp_path: Path) -> None:
    assert made.recipe.contamination
    run = Run(str(tmp_path), LocalEngine(1))
    clean_corpus = decontaminate(run, _records(run, made), made.recipe.contamination)
    dropped = pa.concat_tables([read_parquet(shard.path) for shard in clean_corpus.dropped])
    gone = set(dropped["id"].to_pylist())
    labels = dict(zip(made.kept["id"].to_pylist(), _labels(made, made.kept["id"]), strict=True))
    leaks = {one for one, label in labels.items() if label in LEAKS}
    assert len(leaks & gone) >= 0.95 * len(leaks)
    assert len(gone - leaks) <= 0.001 * len(labels), sorted(gone - leaks)[:20]
    named = {
        item for evidence in dropped["evidence"].to_pylist() for item in re.findall(r"generated/\w+/(\d+)", evidence)
    }
    held = {number for number in range(300) if is_leaked(number) and str(number) in named}
    assert len(held) >= 0.8 * sum(is_leaked(number) for number in range(300))


def test_items_are_held_out_problems_of_which_one_in_ten_is_leaked() -> None:
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
            assert not held_out(draw_where(draw, Dice("train", number), held=False).key)
            assert held_out(draw_where(draw, Dice("test", number), held=True).key)


def test_every_equation_in_the_steps_holds(made: Made) -> None:
    equation = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)\b")
    operations = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}
    checked = 0
    for label, condition, response in zip(
        _labels(made, made.kept["id"]),
        made.kept["condition"].to_pylist(),
        made.kept["response"].to_pylist(),
        strict=True,
    ):
        if label == "" and "cot" in condition:
            for a, sign, b, answer in equation.findall(response):
                assert operations[sign](int(a), int(b)) == int(answer), response
                checked += 1
    assert checked > 1000


def test_every_sudoku_is_solved_by_its_answer(made: Made) -> None:
    rows = made.kept.filter(pc.equal(made.kept["source"], "generated_sudoku"))
    for instruction, response in zip(rows["instruction"].to_pylist(), rows["response"].to_pylist(), strict=True):
        puzzle = re.search(r"[0-4]{4} [0-4]{4} [0-4]{4} [0-4]{4}", instruction)
        assert puzzle is not None and all(shown in ("0", full) for shown, full in zip(puzzle[0], response, strict=True))
        grid = response.split(" ")
        assert all(_fits("".join(grid[:number]), grid[number], number) for number in range(4))
