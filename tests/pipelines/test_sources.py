"""The adapters: on samples in the upstream schema everywhere, and on the real files where they are present."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import recipe as recipes
from pipelines.errors import InputError
from pipelines.ingest import plan_inputs
from pipelines.records import CONDITIONS, RAW, conform
from pipelines.sources import SOURCES
from pipelines.sources.competition_math import last_boxed

FILES = [source for source in SOURCES.values() if source.read is not None]
SUFFIX = r"Let's think step by step and output the final answer within \boxed{}."


def write(path: Path, rows: Any) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(rows)
    return path


def read(name: str, path: Path) -> list[dict[str, Any]]:
    source = SOURCES[name]
    assert source.read is not None
    tables = list(source.read(str(path)))
    assert all(table.schema.equals(RAW) for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def records(name: str, path: Path) -> list[tuple[Any, ...]]:
    keys = ("row", "variant", "condition", "instruction", "response")
    rows = read(name, path)
    assert all(row["fault"] is None for row in rows)
    return [tuple(row[key] for key in keys) for row in rows]


def ground_truth(question: str, solution: str) -> dict[str, Any]:
    truth = {"question": f"{question} {SUFFIX}", "solution": solution, "target": "?"}
    return {"level": "Level 5", "reward_model": {"ground_truth": truth, "style": "rule"}}


SAMPLES: list[tuple[str, str, Any, list[tuple[Any, ...]]]] = [
    (
        "gsm8k",
        "a.jsonl",
        [
            {"question": "q", "answer": "He has <<48/2=24>>24.\n#### 72"},
            {"question": "r", "answer": "x\n#### $1,000 \n"},
        ],
        [(0, "", "direct", "q", "72"), (1, "", "direct", "r", "$1000")],
    ),
    (
        "math",
        "a.parquet",
        [ground_truth("q?", r"So \boxed{\frac{1}{2}}."), ground_truth("r", r"\fbox{3}, that is \boxed 5$")],
        [
            (0, "", "cot", "q?", r"So \boxed{\frac{1}{2}}."),
            (0, "direct", "direct", "q?", r"\frac{1}{2}"),
            (1, "", "cot", "r", r"\fbox{3}, that is \boxed 5$"),
            (1, "direct", "direct", "r", "5"),
        ],
    ),
    (
        "math",
        "a.jsonl",
        [{"problem": "q", "level": "Level 1", "type": "Algebra", "solution": r"\boxed{7}"}],
        [(0, "", "cot", "q", r"\boxed{7}"), (0, "direct", "direct", "q", "7")],
    ),
    (
        "flan_cot",
        "a.tsv",
        'Say "x"?\\nOptions:\\n- yes\\n- no\tno\tFirst this. \nq\t(C)\tLine.\\nOther line\n',
        [
            (0, "", "cot", 'Say "x"?\nOptions:\n- yes\n- no', "First this.\nThe answer is no."),
            (1, "", "cot", "q", "Line.\nOther line\nThe answer is (C)."),
        ],
    ),
    (
        "t0_p3",
        "a.jsonl",
        [
            {"prompt": "p\n", "completion": "naïve<|endoftext|>"},
            {"prompt": "p", "completion": "<|endoftext|>"},
            {"prompt": "p", "completion": "say <|endoftext|> twice"},
        ],
        [
            (0, "", "direct", "p\n", "naïve"),
            (1, "", "direct", "p", ""),
            (2, "", "direct", "p", "say <|endoftext|> twice"),
        ],
    ),
    (
        "gpteacher",
        "a.json",
        [{"instruction": "i", "input": "", "response": "r"}, {"instruction": "i", "input": "x: 5", "response": "r"}],
        [(0, "", "synth,direct", "i", "r"), (1, "", "synth,direct", "i\n\nx: 5", "r")],
    ),
    (
        "reasoning_gym_eval",
        "a.jsonl",
        [
            {
                "idx": 0,
                "question": "q",
                "gt": "1",
                "code": ["<think>t</think><answer>1"],
                "pred": ["1"],
                "report": [None],
            },
            {"idx": 1, "question": "r", "gt": "1", "code": ["a", "b", "c"], "pred": [], "report": []},
        ],
        [
            (0, "", "synth,cot", "q", "<think>t</think><answer>1"),
            (1, "", "synth,cot", "r", "a"),
            (1, "answer1", "synth,cot", "r", "b"),
            (1, "answer2", "synth,cot", "r", "c"),
        ],
    ),
    (
        "lrm_token_economy",
        "a.json",
        {"results": [{"prompt_id": "p", "prompt": "q", "llm": "m", "output": ["a", "b"], "thinking": ["t", "u"]}]},
        [(0, "", "synth,cot", "q", "a"), (0, "answer1", "synth,cot", "q", "b")],
    ),
    (
        "marco_o1",
        "a.json",
        [{"instruction": "q", "response": "<Thought>t</Thought>\n<Output>\na\n</Output>"}],
        [(0, "", "synth,cot", "q", "<Thought>t</Thought>\n<Output>\na\n</Output>")],
    ),
    (
        "theoremqa",
        "a.json",
        [
            {"Question": f"q{i}", "Answer": answer, "Answer_type": "?", "Picture": None}
            for i, answer in enumerate([11760, 1.0, True, [0.333, 5], "(c)"])
        ],
        [(i, "", "direct", f"q{i}", a) for i, a in enumerate(["11760", "1.0", "True", "[0.333, 5]", "(c)"])],
    ),
    (
        "scibench",
        "a.json",
        [
            {"problem_text": " q", "answer_latex": " 50.7", "answer_number": "50.7", "unit": "$\\mathrm{atm}$ "},
            {"problem_text": "r", "answer_latex": " ", "answer_number": "0.5", "unit": " ", "solution": "\nThus. "},
            {"problem_text": "s", "answer_latex": "7", "answer_number": "7", "unit": "", "solution": ""},
        ],
        [
            (0, "", "direct", "q", "50.7 $\\mathrm{atm}$"),
            (1, "", "cot", "r", "Thus.\nThe answer is 0.5."),
            (2, "", "direct", "s", "7"),
        ],
    ),
    *[
        (
            name,
            "a.json",
            [
                {
                    "instruction": "Choose: Answer1: x",
                    "input": "",
                    "output": "the correct answer is answer1",
                    "answer": "answer1",
                }
            ],
            [(0, "", "direct", "Choose: Answer1: x", "the correct answer is answer1")],
        )
        for name in ("arc_challenge", "boolq", "openbookqa")
    ],
    (
        "mawps_asdiv_svamp",
        "a.csv",
        "Question,Numbers,Equation,Answer\n"
        '"He , has number0 books and number1 shelves",56.0 9.5,* number0 number1,532.0\n'
        + " ".join(f"number{i}" for i in (0, 1, 10))
        + ","
        + " ".join(f"{i}.0" for i in range(100, 111))
        + ",+,0.25\n",
        [(0, "", "direct", "He , has 56 books and 9.5 shelves", "532"), (1, "", "direct", "100 101 110", "0.25")],
    ),
    (
        "deepscaler_aime",
        "a.json",
        [{"problem": "q", "solution": "s", "answer": "049", "year": 1983}],
        [(0, "", "noisy,cot", "q", "s"), (0, "direct", "direct", "q", "049")],
    ),
    (
        "self_instruct_seeds",
        "a.jsonl",
        [
            {"instruction": "i", "instances": [{"input": "", "output": "o"}]},
            {"instruction": "j", "instances": [{"input": "x", "output": "o"}, {"input": "y", "output": "p"}]},
        ],
        [(0, "", "direct", "i", "o"), (1, "", "direct", "j\n\nx", "o"), (1, "instance1", "direct", "j\n\ny", "p")],
    ),
]


@pytest.mark.parametrize(("name", "file", "rows", "expected"), SAMPLES, ids=[sample[0] for sample in SAMPLES])
def test_a_sample_in_the_upstream_schema(
    tmp_path: Path, name: str, file: str, rows: Any, expected: list[tuple[Any, ...]]
) -> None:
    assert records(name, write(tmp_path / file, rows)) == expected


def test_every_source_that_reads_files_has_a_sample() -> None:
    assert {source.name for source in FILES} == {sample[0] for sample in SAMPLES}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_source_says_where_it_is_from_and_under_which_licence(source: Any) -> None:
    assert source.title and source.home and source.revision and source.licence
    assert (source.read is None) != (source.generate is None)
    assert set(source.condition.split(",")) <= set(CONDITIONS)


@pytest.mark.parametrize("source", FILES, ids=lambda source: source.name)
def test_a_file_of_something_else_is_an_error_that_names_the_columns(tmp_path: Path, source: Any) -> None:
    if source.name in ("theoremqa", "self_instruct_seeds"):
        pytest.skip("reads whole objects: a row without its fields is a dropped row there")
    name = next(sample[1] for sample in SAMPLES if sample[0] == source.name)
    if name.endswith(".tsv"):
        pytest.skip("a headless file has no columns to miss: its rows are `wrong_columns`")
    path = tmp_path / name
    write(path, "colour,size\nred,1\n" if name.endswith(".csv") else [{"colour": "red", "size": "1"}])
    with pytest.raises(InputError, match=rf"{name}: (no column .*colour|neither columns)"):
        list(source.read(str(path)))


def test_a_row_that_is_not_what_the_source_holds_is_dropped_with_a_reason(tmp_path: Path) -> None:
    samples = {
        "gsm8k": [{"question": "q", "answer": "no mark"}, {"question": "q", "answer": "x #### 1"}],
        "theoremqa": [{"Question": "q", "Answer": 1, "Picture": "images/x.png"}, {"Question": "q", "Answer": None}],
        "self_instruct_seeds": [{"instruction": "i", "instances": []}],
        "reasoning_gym_eval": [
            {"question": "q", "code": []},
            {"question": "q", "code": None},
            {"question": "q", "code": ["a"]},
        ],
        "math": [{"problem": "p", "solution": "no box"}],
    }
    expected = {
        "gsm8k": ["null_response"],
        "theoremqa": ["needs_picture", "null_response"],
        "self_instruct_seeds": ["no_instances"],
        "reasoning_gym_eval": ["null_response", "null_response"],
        "math": ["null_response"],
    }
    for name, rows in samples.items():
        source = SOURCES[name]
        assert source.read is not None
        path = write(tmp_path / f"{name}.jsonl", rows)
        dropped = [conform(table, name, "x").dropped for table in source.read(str(path))]
        assert [reason for table in dropped for reason in table["reason"].to_pylist()] == expected[name]


@pytest.mark.parametrize(
    ("solution", "boxed"),
    [
        (r"\boxed{1} and \boxed{\text{a {b} c}}", r"\text{a {b} c}"),
        (r"\boxed 12$.", "12"),
        (r"\boxed{open", None),
        (r"\boxed", None),
        ("nothing", None),
        (None, None),
        (r"\fbox{x}", "x"),
    ],
)
def test_the_last_box(solution: str | None, boxed: str | None) -> None:
    assert last_boxed(solution) == boxed


# The real files


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
    "scibench": ("scibench/*.json", {"direct": 517, "cot": 175}, {}),
    "arc_challenge": ("arc_challenge_train.json", {"direct": 1119}, {}),
    "boolq": ("boolq_train.json", {"direct": 9427}, {}),
    "openbookqa": ("openbookqa_train.json", {"direct": 4957}, {}),
    "mawps_asdiv_svamp": ("mawps_asdiv_svamp_train.csv", {"direct": 3138}, {}),
    "deepscaler_aime": ("deepscaler_aime_train.json", {"noisy,cot": 975, "direct": 975}, {}),
    "self_instruct_seeds": ("self_instruct_seed_tasks.jsonl", {"direct": 175}, {}),
}


@pytest.mark.parametrize("name", REAL)
def test_nothing_of_the_real_files_is_lost(shared_data: Path, name: str) -> None:
    pattern, kept, dropped = REAL[name]
    source, reasons, conditions, numbers = SOURCES[name], Counter[str](), Counter[str](), []
    assert source.read is not None
    for path in sorted((shared_data / "sources").glob(pattern)):
        seen = []
        for table in source.read(str(path)):
            outcome = conform(table, name, path.name)
            conditions.update(outcome.kept["condition"].to_pylist())
            reasons.update(outcome.dropped["reason"].to_pylist())
            seen += table["row"].to_pylist()
            for text in (*outcome.kept["instruction"].to_pylist(), *outcome.kept["response"].to_pylist()):
                assert not text.endswith("<|endoftext|>") and "output the final answer within" not in text
        assert seen == sorted(seen) and set(seen) == set(range(max(seen) + 1))
        numbers.append(max(seen) + 1)
    assert (dict(conditions), dict(reasons)) == (kept, dropped)


def test_every_placeholder_is_filled_in(shared_data: Path) -> None:
    rows = read("mawps_asdiv_svamp", shared_data / "sources" / "mawps_asdiv_svamp_train.csv")
    assert not [row for row in rows if re.search(r"number\d", row["instruction"])]
    assert rows[0]["instruction"].startswith(
        "Bryan took a look at his books as well . If Bryan has 56 books in each of his 9 "
    )
    assert rows[0]["response"] == "504"


def test_the_boxed_answers_of_math_are_those_that_the_file_names(shared_data: Path) -> None:
    path = shared_data / "sources" / "math_train.parquet"
    targets = pq.read_table(path)["reward_model"].combine_chunks().field("ground_truth").field("target").to_pylist()
    found = [row["response"] for row in read("math", path) if row["variant"] == "direct"]
    # The file's targets are rewritten for a scorer (`x = 2` is `2`); whole numbers must be there as they are.
    whole = [(ours, theirs) for ours, theirs in zip(found, targets, strict=True) if theirs.isdigit()]
    assert len(whole) > 4000
    assert all(theirs in re.sub(r"[,!\\\s]", "", ours) for ours, theirs in whole)


def test_flan_and_gsm8k_hold_the_same_problems_with_the_same_answers(shared_data: Path) -> None:
    direct = read("gsm8k", shared_data / "sources" / "gsm8k_train.jsonl")
    ours = {"".join(row["instruction"].lower().split()): row["response"] for row in direct}
    for row in read("flan_cot", shared_data / "sources" / "flan_cot" / "gsm8k_train.tsv"):
        answer = ours["".join(row["instruction"].lower().split())]
        assert row["response"].endswith(f"\nThe answer is {answer}.")


def test_the_mini_recipe_reads_every_real_source_and_benchmark(shared_data: Path) -> None:
    path = Path(recipes.__file__).parent / "recipes" / "hrm_text_mini.yaml"
    recipe = recipes.load(str(path))
    if Path(recipe.sources[0].paths[0]).parents[1] != shared_data:
        pytest.skip("the recipe names the folder beside the checkout, and the data lie elsewhere")
    inputs = plan_inputs(recipe)
    assert not [one for one in inputs if one.missing]
    there = {path for path in (shared_data / "sources").rglob("*") if path.is_file()}
    assert {Path(one.path) for one in inputs} == there
