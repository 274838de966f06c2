"""The evaluation sets on samples in the schema of each data set, and on the real files where these are present."""

from __future__ import annotations

import bz2
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.benchmarks import BENCHMARKS
from pipelines.benchmarks.bbh import parse as parse_bbh
from pipelines.benchmarks.items import DETAILS
from pipelines.benchmarks.multiple_choice import parse as parse_llm_adapters
from pipelines.errors import InputError
from pipelines.recipe import BenchmarkSpec, load
from pipelines.records import ITEM
from pipelines.steps.benchmark_index import benchmark_items, identity_of

FILES = [benchmark for benchmark in BENCHMARKS.values() if benchmark.read is not None]


def write(path: Path, rows: Any) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows) if isinstance(rows, list) else rows
    if path.name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.name.endswith(".bz2"):
        path.write_bytes(bz2.compress(lines.encode()))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(lines)
    return path


def read(name: str, *paths: Path) -> list[dict[str, Any]]:
    benchmark = BENCHMARKS[name]
    assert benchmark.read is not None
    table = benchmark.read([str(path) for path in paths])
    assert table.select(ITEM.names).schema.equals(ITEM)
    assert set(table.column_names) - set(ITEM.names) <= {DETAILS}
    assert all(table[name].null_count == 0 for name in ITEM.names)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def adapter(question: str, labels: list[str], answer: str) -> dict[str, str]:
    return {
        "instruction": question + "\n\nAnswer format: " + "/".join(labels),
        "input": "",
        "output": "",
        "answer": answer,
    }


CHOICE = adapter(
    "Please choose the correct answer to the question: Why?\n\nAnswer1: dry palms Answer2: Answer me. Answer3: both",
    ["answer1", "answer2", "answer3"],
    "answer2",
)
MMLU_PRO_ROW = {"question": "q", "options": ["a", "b", "c"], "answer": "B", "answer_index": 1, "category": "law"}
SAMPLES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "gsm8k": (
        "gsm8k_test.jsonl",
        [{"question": "q", "answer": "w <<1+1=2>>2\n#### 1,002"}],
        {"id": "gsm8k/gsm8k_test/0", "split": "test", "question": "q", "answer": "1002"},
    ),
    "math": (
        "math_test.parquet",
        [{"problem": "p", "solution": r"so \boxed{\sqrt{2}}"}],
        {"id": "math/math_test/0", "question": "p", "answer": r"\sqrt{2}"},
    ),
    "mmlu": (
        "abstract_algebra_dev.csv",
        '"Find it, please",0,"a ""b""",2,6,B\n',
        {
            "id": "mmlu/abstract_algebra_dev/0",
            "split": "dev",
            "question": "Find it, please",
            "answer": 'a "b"',
            "choices": ["0", 'a "b"', "2", "6"],
        },
    ),
    **{
        name: (
            f"{name}_test.json",
            [CHOICE],
            {
                "id": f"{name}/{name}_test/0",
                "question": "Why?",
                "answer": "Answer me.",
                "choices": ["dry palms", "Answer me.", "both"],
            },
        )
        for name in ("arc_challenge", "arc_easy", "openbookqa", "siqa")
    },
    "boolq": (
        "boolq_test.json",
        [
            adapter(
                "Please answer the following question with true or false, question: is it?", ["true", "false"], "false"
            )
        ],
        {"question": "is it?", "answer": "No", "choices": ["Yes", "No"]},
    ),
    "piqa": (
        "piqa_test.json",
        [
            adapter(
                "Please choose the correct solution to the question: dresser\n\n"
                "Solution1: with bobby pin \n\nSolution2: wood\nglue",
                ["solution1", "solution2"],
                "solution1",
            )
        ],
        {"question": "dresser", "answer": "with bobby pin", "choices": ["with bobby pin", "wood\nglue"]},
    ),
    "winogrande": (
        "winogrande_test.json",
        [
            {
                "instruction": "Please choose the correct answer to fill in the blank to complete the given sentence: "
                "Sarah beat Maria so _ won.\n\nOption1: Sarah Option2: Maria Answer format: option1/option2",
                "answer": "option1",
            }
        ],
        {"question": "Sarah beat Maria so _ won.", "answer": "Sarah", "choices": ["Sarah", "Maria"]},
    ),
    "drop": (
        "drop_v0_dev.jsonl.gz",
        [{"context": "Passage: P one.\nP two.\nQuestion: How many?\nAnswer:", "completion": " 2", "ref_text": "2|two"}],
        {
            "id": "drop/drop_v0_dev/0",
            "split": "dev",
            "question": "How many?",
            "answer": "2|two",
            "passage": "P one.\nP two.",
        },
    ),
    "hellaswag": (
        "hellaswag_val_full.txt.bz2",
        "Roof: A man sits. he\n3\nskis.\nrips.\ncubes.\npulls.\n",
        {
            "split": "val",
            "question": "A man sits. he",
            "answer": "pulls.",
            "details": {"activity": "Roof"},
            "choices": ["skis.", "rips.", "cubes.", "pulls."],
        },
    ),
    "humaneval": (
        "HumanEval.jsonl.gz",
        [{"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "    return 1\n", "test": "assert"}],
        {
            "id": "humaneval/HumanEval/0",
            "split": "test",
            "question": "def f():\n",
            "answer": "    return 1\n",
            "details": {"test": "assert"},
        },
    ),
    "bbh": (
        "date.json",
        {"canary": "BENCHMARK DATA", "examples": [{"input": "When?\nOptions:\n(A) now\n(B) then", "target": "(B)"}]},
        {"id": "bbh/date/0", "question": "When?", "answer": "then", "choices": ["now", "then"]},
    ),
    "aime": (
        "aime.json",
        [{"problem": "p", "solution": "s", "answer": "073", "year": 2024}],
        {"id": "aime/aime/0", "question": "p", "answer": "073"},
    ),
    "aime_2025": (
        "aime25_test.jsonl",
        [{"problem": "p", "answer": "73", "id": "0"}],
        {"id": "aime_2025/aime25_test/0", "split": "test", "question": "p", "answer": "73"},
    ),
    "mmlu_pro": (
        "mmlu_pro_test.jsonl",
        [MMLU_PRO_ROW],
        {
            "id": "mmlu_pro/mmlu_pro_test/0",
            "split": "test",
            "question": "q",
            "answer": "b",
            "choices": ["a", "b", "c"],
            "details": {"subject": "law"},
        },
    ),
    "rephrased_mmlu": (
        "x_test_rephrase_english.jsonl",
        [{"language": "rephrase_english", "text": "again?"}],
        {
            "id": "rephrased_mmlu/x_test_rephrase_english/0",
            "split": "test",
            "question": "again?",
            "answer": "",
            "choices": [],
        },
    ),
    "rephrased_humaneval": ("humaneval_python.jsonl", [{"text": "def g(): ..."}], {"question": "def g(): ..."}),
    "decon": (
        "quiz_test-1.jsonl.gz",
        [{"eval_key": "quiz", "split": "test", "eval_instance_index": 3, "question": "q", "answer": "5", "doc_id": 9}],
        {"id": "quiz/test/3", "split": "test", "question": "q", "answer": "5", "choices": [], "passage": ""},
    ),
    "items": (
        "mine.jsonl",
        [{"question": "q", "answer": 5, "choices": ["5", "6"], "extra": 1}, {"question": "r"}],
        {"id": "items/mine/0", "question": "q", "answer": "5", "choices": ["5", "6"], "passage": ""},
    ),
}


@pytest.mark.parametrize("benchmark", FILES, ids=lambda benchmark: benchmark.name)
def test_a_sample_in_the_schema_of_the_data_set(tmp_path: Path, benchmark: Any) -> None:
    file, rows, expected = SAMPLES[benchmark.name]
    first = read(benchmark.name, write(tmp_path / file, rows))[0]
    assert {key: first[key] for key in expected} == expected


LETTERED = {"choices": {"text": ["dry", "wet"], "label": ["A", "B"]}, "answerKey": "B"}
LETTERED_ITEM = {"question": "Why?", "answer": "wet", "choices": ["dry", "wet"]}
ON_THE_HUB: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gsm8k": (
        "openai/gsm8k/main/test-00000-of-00001.parquet",
        {"question": "q", "answer": "#### 1,002"},
        {"id": "gsm8k/main_test/0", "split": "test", "answer": "1002"},
    ),
    "math": (
        "EleutherAI/hendrycks_math/algebra/test-00000-of-00001.parquet",
        {"problem": "p", "level": "Level 1", "type": "Algebra", "solution": r"so \boxed{2}"},
        {
            "id": "math/algebra_test/0",
            "question": "p",
            "answer": "2",
            "details": {"level": "Level 1", "type": "Algebra"},
        },
    ),
    "drop": (
        "ucinlp/drop/data/validation-00000-of-00001.parquet",
        {
            "passage": "P",
            "question": "How many?",
            "answers_spans": {"spans": ["2", "two", "2"], "types": ["number"] * 3},
        },
        {"id": "drop/data_validation/0", "split": "validation", "answer": "2|two", "passage": "P"},
    ),
    "mmlu": (
        "cais/mmlu/all/test-00000-of-00001.parquet",
        {"question": "q", "subject": "anatomy", "choices": ["0", "4", "2", "6"], "answer": 1},
        {
            "id": "mmlu/all_test/0",
            "question": "q",
            "answer": "4",
            "choices": ["0", "4", "2", "6"],
            "details": {"subject": "anatomy"},
        },
    ),
    "arc_challenge": (
        "allenai/ai2_arc/ARC-Challenge/test-00000-of-00001.parquet",
        {"id": "x", "question": "Why?"} | LETTERED,
        {"id": "arc_challenge/ARC-Challenge_test/0"} | LETTERED_ITEM,
    ),
    "arc_easy": (
        "allenai/ai2_arc/ARC-Easy/test-00000-of-00001.parquet",
        {"id": "x", "question": "Why?"} | LETTERED,
        LETTERED_ITEM,
    ),
    "openbookqa": (
        "allenai/openbookqa/main/test-00000-of-00001.parquet",
        {"id": "x", "question_stem": "Why?"} | LETTERED,
        LETTERED_ITEM,
    ),
    "hellaswag": (
        "Rowan/hellaswag/data/validation-00000-of-00001.parquet",
        {
            "activity_label": "Roof",
            "ctx": "A man sits. he",
            "ctx_a": "A man sits.",
            "ctx_b": "he",
            "endings": ["skis.", "rips."],
            "label": "1",
        },
        {
            "split": "validation",
            "question": "A man sits. he",
            "answer": "rips.",
            "details": {"activity": "Roof", "ctx_a": "A man sits.", "ctx_b": "he"},
        },
    ),
    "winogrande": (
        "allenai/winogrande/winogrande_debiased/validation/0000.parquet",
        {"sentence": "So _ won.", "option1": "Sarah", "option2": "Maria", "answer": "2"},
        {"id": "winogrande/winogrande_debiased_validation/0", "question": "So _ won.", "answer": "Maria"},
    ),
    "boolq": (
        "google/boolq/data/validation-00000-of-00001.parquet",
        {"question": "is it?", "answer": False, "passage": "It is not."},
        {"question": "is it?", "answer": "No", "choices": ["Yes", "No"], "passage": "It is not."},
    ),
    "piqa": (
        "ybisk/piqa/plain_text/validation/0000.parquet",
        {"goal": "dresser", "sol1": "bobby pin", "sol2": "glue", "label": 1},
        {"id": "piqa/plain_text_validation/0", "question": "dresser", "answer": "glue"},
    ),
    "siqa": (
        "allenai/social_i_qa/default/validation/0000.parquet",
        {"context": "Jo left.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "3"},
        {"question": "Jo left. Why?", "answer": "c", "choices": ["a", "b", "c"]},
    ),
    "humaneval": (
        "openai/openai_humaneval/openai_humaneval/test-00000-of-00001.parquet",
        {"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "    return 1\n"},
        {"id": "humaneval/openai_humaneval_test/0", "answer": "    return 1\n"},
    ),
    "bbh": (
        "lukaemon/bbh/date/test-00000-of-00001.parquet",
        {"input": "When?\nOptions:\n(A) now\n(B) then", "target": "(B)"},
        {"id": "bbh/date_test/0", "question": "When?", "answer": "then"},
    ),
    "aime": (
        "HuggingFaceH4/aime_2024/data/train-00000-of-00001.parquet",
        {"id": 1, "problem": "p", "solution": "s", "answer": "73", "url": "", "year": "2024"},
        {"id": "aime/data_train/0", "split": "test", "question": "p", "answer": "73"},
    ),
}


NONE = {"number": [], "date": [], "spans": []}
OTHERS_ON_THE_HUB: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mmlu_pro": (
        "TIGER-Lab/MMLU-Pro/data/test-00000-of-00001.parquet",
        MMLU_PRO_ROW,
        {"id": "mmlu_pro/data_test/0", "split": "test", "answer": "b", "details": {"subject": "law"}},
    ),
    "aime_2025": (
        "math-ai/aime25/default/test/0000.parquet",
        {"problem": "p", "answer": "73", "id": "0"},
        {"id": "aime_2025/default_test/0", "split": "test", "question": "p", "answer": "73"},
    ),
    "drop": (
        "EleutherAI/drop/default/validation/0000.parquet",
        {
            "passage": "P",
            "question": "Who?",
            "answer": {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": ["Ann", "Bo"]},
            "validated_answers": {
                "number": ["", "2", ""],
                "date": [
                    {"day": "", "month": "", "year": ""},
                    {"day": "", "month": "", "year": ""},
                    {"day": "3", "month": "May", "year": "1990"},
                ],
                "spans": [["Ann", "Bo"], [], []],
            },
        },
        {
            "id": "drop/default_validation/0",
            "split": "validation",
            "answer": "Ann and Bo|2|3 May 1990",
            "details": {"answers": [["Ann", "Bo"], ["2"], ["3 May 1990"]]},
        },
    ),
}
"""Benchmarks, or layouts of them, that are for scoring, and that no recipe checks a corpus against."""


@pytest.mark.parametrize("name", OTHERS_ON_THE_HUB)
def test_a_sample_for_scoring_in_the_schema_on_the_hub(tmp_path: Path, name: str) -> None:
    path, row, expected = OTHERS_ON_THE_HUB[name]
    (tmp_path / path).parent.mkdir(parents=True)
    (first,) = read(name, write(tmp_path / path, [row]))
    assert {key: first[key] for key in expected} == expected


def test_the_right_one_of_equal_choices_is_in_the_details(tmp_path: Path) -> None:
    path = write(tmp_path / "anatomy_test.csv", "Which?,same,other,same,last,C\nWhich?,same,other,same,last,B\n")
    first, second = read("mmlu", path)
    assert (first["answer"], first[DETAILS]) == ("same", {"correct": 2})
    assert (second["answer"], second[DETAILS]) == ("other", None)


def test_files_with_and_without_details_are_one_table(tmp_path: Path) -> None:
    plain = write(tmp_path / "anatomy_test.csv", "Which?,a,b,c,d,C\n")
    hub = tmp_path / "all/test-00000-of-00001.parquet"
    hub.parent.mkdir()
    rows = read("mmlu", plain, write(hub, [ON_THE_HUB["mmlu"][1]]))
    assert [row[DETAILS] for row in rows] == [None, {"subject": "anatomy"}]


def mirror(folder: Path) -> Path:
    """A folder with one row of each benchmark that has an address, laid out as the hub."""
    for path, row, _ in ON_THE_HUB.values():
        (folder / "datasets" / path).parent.mkdir(parents=True, exist_ok=True)
        write(folder / "datasets" / path, [row])
    write(folder / "datasets/cais/mmlu/all/dev-00000-of-00001.parquet", [ON_THE_HUB["mmlu"][1]])
    return folder


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_a_sample_in_the_schema_on_the_hub(tmp_path: Path, name: str) -> None:
    path, _, expected = ON_THE_HUB[name]
    (first,) = read(name, mirror(tmp_path) / "datasets" / path)
    assert {key: first[key] for key in expected} == expected


def test_every_benchmark_of_the_complete_recipe_is_found_at_its_address_in_a_mirror(tmp_path: Path) -> None:
    recipe = load("pipelines/recipes/hrm_text.yaml", [f"mirror={mirror(tmp_path)}"])
    assert recipe.contamination
    ids = [benchmark_items(spec)["id"].to_pylist() for spec in recipe.contamination.benchmarks]
    assert len(ids) == len(recipe.contamination.benchmarks) == len(ON_THE_HUB)
    assert {len(items) for items in ids} == {1, 2}  # 2: MMLU, whose dev split is read too


def test_the_identity_of_a_benchmark_changes_with_folders_that_are_in_its_ids(tmp_path: Path) -> None:
    row = ON_THE_HUB["math"][1]
    identities = []
    for file in ("algebra/test-00000-of-00001.parquet", "geometry/test-00000-of-00001.parquet"):
        (tmp_path / file).parent.mkdir()
        path = write(tmp_path / file, [row])
        identities.append(identity_of(BenchmarkSpec(name="math", path=str(path))))
    assert identities[0] != identities[1]


@pytest.mark.parametrize("label", ["2", "-1", "B", ""])
def test_an_answer_that_is_no_choice_is_an_error_that_names_the_row(tmp_path: Path, label: str) -> None:
    path = write(tmp_path / "validation.jsonl", [ON_THE_HUB["piqa"][1] | {"label": label}])
    with pytest.raises(InputError, match=r"validation\.jsonl: row 0: the answer"):
        read("piqa", path)


@pytest.mark.parametrize("benchmark", FILES, ids=lambda benchmark: benchmark.name)
def test_the_error_for_a_file_of_another_data_set_names_it(tmp_path: Path, benchmark: Any) -> None:
    file, rows, _ = SAMPLES[benchmark.name]
    path = write(tmp_path / file, rows)
    other = [{"colour": "red"}] if not isinstance(rows, str) else "colour\n"
    if file.endswith(".json") and isinstance(rows, dict):
        other = {"examples": other}
    with pytest.raises(InputError, match=path.name.split(".")[0]):
        read(benchmark.name, write(path, other))


def test_a_bad_row_of_a_benchmark_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "gsm8k_test.jsonl"
    for line, why in (
        ("{broken", "broken_json"),
        ('{"question": "q", "answer": null}', "no 'answer'"),
        ('{"question": "q", "answer": "7"}', "####"),
    ):
        path.write_text('{"question": "q", "answer": "#### 1"}\n' + line + "\n")
        with pytest.raises(InputError, match=rf"gsm8k_test\.jsonl: row 1: .*{why}"):
            read("gsm8k", path)


def test_rephrased_questions_have_the_answers_of_the_same_lines_of_the_original(tmp_path: Path) -> None:
    original = write(tmp_path / "x_test.csv", "one,a,b,c,d,B\ntwo,e,f,g,h,A\n")
    rephrased = write(tmp_path / "x_test_rephrase_english.jsonl", [{"text": ""}, {"text": "the second"}])
    (item,) = read("rephrased_mmlu", original, rephrased)
    assert (item["id"], item["question"], item["answer"]) == (
        "rephrased_mmlu/x_test_rephrase_english/1",
        "the second",
        "e",
    )
    with pytest.raises(InputError, match="no file with its rephrased questions"):
        read("rephrased_mmlu", original)


@pytest.mark.parametrize(
    ("text", "target", "question", "answer", "choices"),
    [
        ("Valid?\nOptions:\n- valid \n- invalid", "valid", "Valid?", "valid", ["valid", "invalid"]),
        ("Sort: b a", "a b", "Sort: b a", "a b", []),
        ("Which?\nOptions:\n(A) x\n(B) y", "(C)", "Which?\nOptions:\n(A) x\n(B) y", "(C)", []),
    ],
)
def test_options_of_bbh(text: str, target: str, question: str, answer: str, choices: list[str]) -> None:
    item = parse_bbh(text, target)
    assert (item.question, item.answer, list(item.choices)) == (question, answer, choices)


def test_an_answer_that_is_not_a_label_gives_no_item() -> None:
    assert parse_llm_adapters(CHOICE["instruction"], "answer4") is None
    assert parse_llm_adapters("Something else", "answer1") is None


# The real files

REAL: dict[str, tuple[str, int, dict[int, int]]] = {
    "gsm8k": ("gsm8k_test.jsonl", 1319, {0: 1319}),
    "math": ("math_test.parquet", 5000, {0: 5000}),
    "mmlu": ("mmlu/*/*.csv", 14_042 + 285, {4: 14_327}),
    "arc_challenge": ("arc_challenge_test.json", 1172, {3: 4, 4: 1165, 5: 3}),
    "arc_easy": ("arc_easy_test.json", 2376, {3: 7, 4: 2365, 5: 4}),
    "boolq": ("boolq_test.json", 3270, {2: 3270}),
    "openbookqa": ("openbookqa_test.json", 500, {4: 500}),
    "piqa": ("piqa_test.json", 1838, {2: 1838}),
    "siqa": ("social_i_qa_test.json", 1954, {3: 1954}),
    "winogrande": ("winogrande_test.json", 1267, {2: 1267}),
    "drop": ("drop_v0_dev.jsonl.gz", 9536, {0: 9536}),
    "hellaswag": ("hellaswag_val_full.txt.bz2", 10_042, {4: 10_042}),
    "humaneval": ("HumanEval.jsonl.gz", 164, {0: 164}),
    "aime": ("aime.json", 30, {0: 30}),
    "rephrased_mmlu": ("rephrased/[as]*", 293, {4: 293}),
    "rephrased_humaneval": ("rephrased/humaneval_python.jsonl", 147, {0: 147}),
}


@pytest.mark.parametrize("name", REAL)
def test_every_item_of_the_real_files_is_read(shared_data: Path, name: str) -> None:
    pattern, count, choices = REAL[name]
    items = read(name, *sorted((shared_data / "benchmarks").glob(pattern)))
    assert len({item["id"] for item in items}) == len(items) == count
    assert Counter(len(item["choices"]) for item in items) == choices
    assert all(item["question"].strip() for item in items)
    assert all(item["answer"] in item["choices"] for item in items if item["choices"])
    if name == "gsm8k":
        assert all(float(item["answer"]) is not None for item in items)


def test_all_27_tasks_of_bbh_are_read(shared_data: Path) -> None:
    items = read("bbh", *sorted((shared_data / "benchmarks" / "bbh").glob("*.json")))
    assert len(items) == 6511
    without = Counter(item["id"].split("/")[1] for item in items if not item["choices"])
    open_tasks = {name for name, count in without.items() if count > 10}
    assert len({item["id"].split("/")[1] for item in items}) == 27
    assert {
        "boolean_expressions",
        "dyck_languages",
        "multistep_arithmetic_two",
        "object_counting",
        "word_sorting",
    } <= open_tasks
