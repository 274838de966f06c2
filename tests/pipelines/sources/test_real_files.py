"""The sources on real files, where these are present: every row is accounted for."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import recipe as recipes
from pipelines.records import conform
from pipelines.sources import SOURCES
from pipelines.steps.source_files import plan_inputs
from tests.pipelines.sources.samples.sample import read

REAL = {
    "gsm8k": ("gsm8k_train.jsonl", {"direct": 7473}, {}),
    "math": ("math_train.parquet", {"cot": 7500, "direct": 7500}, {}),
    "flan_cot": ("flan_cot/*.tsv", {"cot": 33_443}, {}),
    "t0_p3": ("t0_p3_50k.jsonl.gz", {"direct": 55_185}, {}),
    "gpteacher": ("gpteacher/*.json", {"synth,direct": 4535 + 1923}, {}),
    "reasoning_gym_eval": ("reasoning_traces/rg_*.jsonl", {"synth,cot": 2215 + 1319 + 1000 + 1000}, {}),
    "lrm_token_economy": ("reasoning_traces/lrm_nemotron.json", {"synth,cot": 19 * 5}, {}),
    "marco_o1": ("marco_o1_thoughts.json", {"synth,cot": 125}, {}),
    "theoremqa": ("theoremqa.json", {"direct": 747}, {"needs_picture": 53}),
    "scibench": ("scibench/*.json", {"direct": 692, "cot": 175}, {}),
    "arc_challenge": ("arc_challenge_train.json", {"direct": 1119}, {}),
    "boolq": ("boolq_train.json", {"direct": 9427}, {}),
    "openbookqa": ("openbookqa_train.json", {"direct": 4957}, {}),
    "mawps_asdiv_svamp": ("mawps_asdiv_svamp_train.csv", {"direct": 3138}, {}),
    "deepscaler_aime": ("deepscaler_aime_train.json", {"noisy,cot": 975, "direct": 975}, {}),
    "self_instruct_seeds": ("self_instruct_seed_tasks.jsonl", {"direct": 175}, {}),
}


@pytest.mark.parametrize("name", REAL)
def test_every_row_of_the_real_files_is_kept_or_dropped_with_a_reason(shared_data: Path, name: str) -> None:
    pattern, kept, dropped = REAL[name]
    source, reasons, conditions = SOURCES[name], Counter[str](), Counter[str]()
    assert source.read is not None
    for path in sorted((shared_data / "sources").glob(pattern)):
        numbers: list[int] = []
        for table in source.read(str(path)):
            outcome = conform(table, name, path.name)
            conditions.update(outcome.kept["condition"].to_pylist())
            reasons.update(outcome.dropped["reason"].to_pylist())
            numbers += table["row"].to_pylist()
            for text in (*outcome.kept["instruction"].to_pylist(), *outcome.kept["response"].to_pylist()):
                assert not text.endswith("<|endoftext|>") and "output the final answer within" not in text
        assert numbers == sorted(numbers) and set(numbers) == set(range(max(numbers) + 1))
    assert (dict(conditions), dict(reasons)) == (kept, dropped)


def test_every_placeholder_is_replaced(shared_data: Path) -> None:
    rows = read("mawps_asdiv_svamp", shared_data / "sources" / "mawps_asdiv_svamp_train.csv")
    assert not [row for row in rows if re.search(r"number\d", row["instruction"])]
    assert rows[0]["instruction"].startswith(
        "Bryan took a look at his books as well . If Bryan has 56 books in each of his 9 "
    )
    assert rows[0]["response"] == "504"


def test_the_boxed_answers_of_math_are_those_in_the_file(shared_data: Path) -> None:
    path = shared_data / "sources" / "math_train.parquet"
    targets = pq.read_table(path)["reward_model"].combine_chunks().field("ground_truth").field("target").to_pylist()
    answers = [row["response"] for row in read("math", path) if row["variant"] == "direct"]
    # The targets are rewritten for a scorer (`x = 2` is `2`), except integers.
    integers = [(answer, target) for answer, target in zip(answers, targets, strict=True) if target.isdigit()]
    assert len(integers) > 4000
    assert all(target in re.sub(r"[,!\\\s]", "", answer) for answer, target in integers)


def test_flan_and_gsm8k_have_the_same_problems_with_the_same_answers(shared_data: Path) -> None:
    direct = read("gsm8k", shared_data / "sources" / "gsm8k_train.jsonl")
    answers = {"".join(row["instruction"].lower().split()): row["response"] for row in direct}
    for row in read("flan_cot", shared_data / "sources" / "flan_cot" / "gsm8k_train.tsv"):
        answer = answers["".join(row["instruction"].lower().split())]
        assert row["response"].endswith(f"\nThe answer is {answer}.")


def test_the_mini_recipe_reads_every_real_source_and_benchmark(shared_data: Path) -> None:
    path = Path(recipes.__file__).parent / "recipes" / "hrm_text_mini.yaml"
    recipe = recipes.load(str(path))
    if Path(recipe.sources[0].paths[0]).parents[1] != shared_data:
        pytest.skip("the recipe names the folder beside the checkout, and the data lie elsewhere")
    inputs = plan_inputs(recipe)
    assert not [file for file in inputs if file.missing]
    present = {path for path in (shared_data / "sources").rglob("*") if path.is_file()}
    assert {Path(file.path) for file in inputs} == present
