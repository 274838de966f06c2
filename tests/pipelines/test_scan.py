"""A scan is the ingest and contamination check of a build, for any files and evaluation sets."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.audit.report import facts, write_report
from pipelines.audit.verify import verify
from pipelines.audit.why import why
from pipelines.curate import SCAN_STEPS, curate
from pipelines.errors import InputError, RecipeError
from pipelines.formats.roles import guess_columns, parse_columns
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import open_run
from pipelines.recipe import BenchmarkSpec, Contamination, Recipe
from pipelines.scan import (
    SOURCE,
    BenchmarkHits,
    ClassCount,
    ScanSummary,
    find_benchmarks,
    scan_recipe,
    summary,
)
from pipelines.steps.benchmark_index import benchmark_items
from pipelines.steps.source_files import check_inputs
from tests.steps import record_run

GENERATED = Contamination(benchmarks=(BenchmarkSpec(name="generated", rows=60),))
ITEMS = benchmark_items(GENERATED.benchmarks[0]).to_pylist()
LEAKED = [ITEMS[number] for number in (3, 17, 41)]


def texts() -> list[str]:
    """40 texts, three of which hold an item."""
    rows = [f"Describe the number {n} on page {n + 7} of a book about gardens." for n in range(37)]
    for place, item in zip((2, 20, 39), LEAKED, strict=True):
        rows.insert(place, f"Answer the question.\nQuestion: {item['question']}\nAnswer: {item['answer']}")
    return rows


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def scanned(root: Path, recipe: Recipe, workers: int = 1) -> tuple[ScanSummary, Run]:
    """The answer of a scan, and the run that made it."""
    with LocalEngine(workers) as engine:
        run = Run(str(root), engine)
        corpus = curate(run, recipe, steps=SCAN_STEPS)
    return summary(record_run(run, recipe, corpus)), run


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize(
    "shape",
    [
        lambda text: {"text": text},
        lambda text: {"prompt": text, "completion": "Well."},
        lambda text: {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Well."}]},
    ],
    ids=["text", "pairs", "conversations"],
)
def test_items_are_found_in_texts_pairs_and_conversations_of_every_format(
    tmp_path: Path, name: str, shape: Any
) -> None:
    file = write(tmp_path / "corpus" / name, [shape(text) for text in texts()])
    answer, _ = scanned(tmp_path / "root", scan_recipe([str(file)], None, GENERATED))
    (line,) = answer.benchmarks
    assert line == BenchmarkHits(benchmark="generated", items=60, contaminated=3, rows=3)
    assert {hit.item for hit in answer.worst} == {item["id"] for item in LEAKED}
    assert (answer.rows_in, answer.rows_clean, answer.flagged) == (40, 37, {"contamination/test_leak": 3})
    flagged = pa.concat_tables([storage.read_parquet(path) for path in answer.flagged_rows]).to_pylist()
    assert [row["id"] for row in flagged] == [f"{SOURCE}/a/{n}" for n in (2, 20, 39)]
    for row, item in zip(flagged, LEAKED, strict=True):
        evidence = json.loads(row["evidence"])
        assert evidence["item"] == item["id"] and evidence["span"] in row["instruction"] + row["response"]
    assert answer.classes["test_leak"] == ClassCount(rows=3, items=3)


def test_a_scan_is_a_recorded_run(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"text": text} for text in texts()])
    answer, _ = scanned(tmp_path / "root", scan_recipe([str(file)], None, GENERATED))
    run = open_run(str(tmp_path / "root"), answer.run)
    assert verify(run).rows == 37
    fate = why(run, f"{SOURCE}/a/20")
    assert fate.history[-1].reason == "test_leak" and LEAKED[1]["id"] in json.dumps(fate.history[-1].evidence)
    page = Path(write_report(run)).read_text(encoding="utf-8")
    assert LEAKED[1]["id"] in page


def test_the_report_shows_item_and_row_side_by_side_and_counts_every_rule(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"text": text} for text in texts()])
    answer, _ = scanned(tmp_path / "root", scan_recipe([str(file)], None, GENERATED))
    found = facts(open_run(str(tmp_path / "root"), answer.run))["contamination"]
    (line,) = found["benchmarks"]
    assert (line["items"], line["contaminated"], line["remaining"]) == (60, 3, 0)
    assert line["rules"]["ngram13"] == {"items": 3, "rows": 3} and set(line["rules"]) == set(found["rules"])
    assert line["sources"][SOURCE]["test_leak"] == 3
    for hit in line["worst"]:
        (item,) = [one for one in LEAKED if one["id"] == hit["item"]]
        assert hit["before"].endswith("Question: ") and hit["after"].endswith(item["answer"])
        assert "".join(text for text, _ in hit["item_words"]) == item["question"]
        assert "".join(text for text, same in hit["span_words"] if same) == hit["span"]


def test_a_second_scan_is_reused_and_another_rule_reads_no_file_again(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"text": text} for text in texts()])
    first, made = scanned(tmp_path / "root", scan_recipe([str(file)], None, GENERATED))
    again, reused = scanned(tmp_path / "root", scan_recipe([str(file)], None, GENERATED), workers=2)
    assert [step.reused for step in made.results] == [False, False, False]
    assert [step.reused for step in reused.results] == [True, True, True] and again == first
    other = GENERATED.model_copy(update={"rule": "open_r1"})
    _, third = scanned(tmp_path / "root", scan_recipe([str(file)], None, other))
    assert [step.reused for step in third.results] == [True, True, False]


class Stopping(LocalEngine):
    """Runs `items` work items, then is stopped as by a signal."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.remaining = items

    def map(self, work: Any, items: Any, resources: Any = None) -> Iterator[Any]:
        for item in items:
            if not self.remaining:
                raise KeyboardInterrupt
            self.remaining -= 1
            yield work(item)


def test_a_scan_stopped_after_any_work_item_resumes_to_the_same_answer(tmp_path: Path) -> None:
    rows = [{"text": text} for text in texts()]
    for number in range(4):
        write(tmp_path / "corpus" / f"{number}.jsonl", rows[10 * number : 10 * number + 10])
    recipe = scan_recipe([str(tmp_path / "corpus")], None, GENERATED)
    complete, _ = scanned(tmp_path / "complete", recipe)
    stops = 0
    for _ in range(50):  # each start gets three work items further, until one comes through
        try:
            curate(Run(str(tmp_path / "stopped"), Stopping(3)), recipe, steps=SCAN_STEPS)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 4  # 4 files read, an index, 4 shards scanned, 4 judged
    resumed, run = scanned(tmp_path / "stopped", recipe)
    assert all(step.reused for step in run.results)
    paths = ("hits", "flagged_rows", "clean_rows", "clean_ids")
    assert resumed.model_dump(exclude=set(paths)) == complete.model_dump(exclude=set(paths))
    for name in paths:
        resumed_files, complete_files = getattr(resumed, name), getattr(complete, name)
        assert [storage.digest(path) for path in resumed_files] == [storage.digest(path) for path in complete_files]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["id", "question", "answer"], {"instruction": "question", "response": "answer"}),
        (["Instruction", "Input", "Output"], {"instruction": ("Instruction", "Input"), "response": "Output"}),
        (["problem", "solution", "answer"], {"instruction": "problem", "response": "solution"}),
        (["url", "text", "lang"], {"text": "text"}),
        (["prompt"], {"text": "prompt"}),
    ],
)
def test_columns_are_guessed_by_their_names(tmp_path: Path, names: list[str], expected: dict[str, Any]) -> None:
    assert guess_columns(str(write(tmp_path / "a.jsonl", [dict.fromkeys(names, "x")]))) == expected
    assert guess_columns(str(write(tmp_path / "a.parquet", [dict.fromkeys(names, "x")]))) == expected
    (tmp_path / "a.csv").write_text(",".join(names) + "\n" + ",".join("x" for _ in names) + "\n")
    assert guess_columns(str(tmp_path / "a.csv")) == expected


def test_columns_without_a_common_name_must_be_given(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"foo": "x", "bar": "y"}])
    with pytest.raises(RecipeError, match=r"columns: foo, bar.*--columns instruction=foo,response=bar"):
        scan_recipe([str(file)], None, GENERATED)
    recipe = scan_recipe([str(file)], parse_columns("instruction=foo, response=bar"), GENERATED)
    assert recipe.sources[0].columns == {"instruction": "foo", "response": "bar"}
    with pytest.raises(InputError, match="baz"):
        check_inputs(scan_recipe([str(file)], parse_columns("text=baz"), GENERATED))
    with pytest.raises(RecipeError, match="write instruction=COLUMN"):
        parse_columns("foo")


def test_folders_and_urls_are_read_and_other_files_ignored(tmp_path: Path) -> None:
    rows = [{"text": text} for text in texts()]
    write(tmp_path / "corpus" / "b" / "two.jsonl", rows[20:])
    write(tmp_path / "corpus" / "one.parquet", rows[:20])
    (tmp_path / "corpus" / "README.md").write_text("a data set")
    recipe = scan_recipe([str(tmp_path / "corpus")], None, GENERATED)
    assert [Path(path).name for path in recipe.sources[0].paths] == ["two.jsonl", "one.parquet"]
    answer, _ = scanned(tmp_path / "root", recipe)
    assert answer.rows_in == 40 and answer.flagged == {"contamination/test_leak": 3}
    storage.write_bytes("memory://scan/one.jsonl", (tmp_path / "corpus" / "b" / "two.jsonl").read_bytes())
    remote, _ = scanned(tmp_path / "root", scan_recipe(["memory://scan/*.jsonl"], None, GENERATED))
    assert remote.rows_in == 20
    with pytest.raises(InputError, match=r"no file of a known format \(\.jsonl"):
        scan_recipe([str(tmp_path / "corpus" / "README.md")], None, GENERATED)


def decon(question: str, **more: Any) -> dict[str, Any]:
    return {
        "eval_key": "quiz", "config": None, "split": "test", "eval_instance_index": 0, "doc_id": 1,
        "question": question, "fingerprint": "0", **more,
    }  # fmt: skip


def test_evaluation_sets_are_found_by_file_names_and_by_columns(tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    write(folder / "gsm8k_test.jsonl", [{"question": "How many?", "answer": "#### 3"}])
    write(folder / "quiz_test-1.jsonl.gz", [decon("How many sails did the keepers count that day?", answer="nine")])
    write(folder / "quiz_test-2.jsonl.gz", [decon("Who lit the lamp?", answer="Ada", eval_instance_index=1)])
    write(folder / "mine.jsonl", [{"question": "What did the ledger say about the storm?", "answer": "nothing"}])
    write(folder / "rows.jsonl", [{"text": "no item"}])
    (folder / "LICENSE").write_text("free")
    found = find_benchmarks([str(folder)])
    assert {(spec.name, spec.adapter) for spec in found.specs} == {
        ("gsm8k", None), ("decon_quiz", "decon"), ("mine", "items")
    }  # fmt: skip
    assert [Path(path).name for path in found.others] == ["LICENSE", "rows.jsonl"]
    sizes = {spec.name: benchmark_items(spec).num_rows for spec in found.specs}
    assert sizes == {"gsm8k": 1, "decon_quiz": 2, "mine": 1}
    named = find_benchmarks([f"math={folder}/mine.jsonl", f"own={folder}/mine.jsonl", "generated=5"]).specs
    assert [(spec.name, spec.adapter, spec.rows) for spec in named] == [
        ("math", None, None), ("own", "items", None), ("generated", None, 5)
    ]  # fmt: skip


def test_a_file_that_is_no_benchmark_is_an_error_that_names_it(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [{"text": "no item"}])
    with pytest.raises(InputError, match="no evaluation set found"):
        find_benchmarks([str(rows)])
    with pytest.raises(InputError, match=r"no benchmark is called 'gsm8' \(did you mean 'gsm8k'\?\)"):
        find_benchmarks([f"gsm8={rows}"])
    with pytest.raises(InputError, match="no such file"):
        find_benchmarks([f"gsm8k={tmp_path}/none.jsonl"])
    with pytest.raises(RecipeError, match="generated=300"):
        find_benchmarks(["generated=many"])
    with pytest.raises(RecipeError, match="named twice"):
        find_benchmarks(["generated=5", "generated=6"])


def test_decon_lines_of_one_item_are_one_item(tmp_path: Path) -> None:
    question = "Find the degree of the field extension that the roots of two and of three generate."
    rows = [
        decon(question, answer="0", is_correct=False, config="all"),
        decon(question, answer="4", is_correct=True, config="all"),
        decon(question, answer="It is four, since ...", config="all"),
        decon("How many?", passage="A passage.", answer="2", eval_instance_index=1),
        decon("How many?", passage="A passage.", answer="two", eval_instance_index=1, sub_index=1),
        decon("Who?", passage="A passage.", eval_instance_index=1),
    ]
    items = benchmark_items(
        BenchmarkSpec(name="quiz", adapter="decon", path=str(write(tmp_path / "quiz.jsonl", rows)))
    ).to_pylist()
    assert items == [
        {"id": "quiz/all/test/0", "split": "test", "question": question, "answer": "4", "choices": ["0", "4"],
         "passage": ""},
        {"id": "quiz/test/1", "split": "test", "question": "How many?", "answer": "2|two", "choices": [],
         "passage": "A passage."},
        {"id": "quiz/test/1/1", "split": "test", "question": "Who?", "answer": "", "choices": [],
         "passage": "A passage."},
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ real data


def test_every_set_of_the_folder_of_real_data_is_found(shared_data: Path) -> None:
    found = find_benchmarks([str(shared_data / "benchmarks")])
    assert {spec.name for spec in found.specs} == {
        "gsm8k", "math", "mmlu", "bbh", "arc_challenge", "arc_easy", "boolq", "openbookqa", "piqa", "siqa", "aime",
        "winogrande", "drop", "hellaswag", "humaneval", "rephrased_mmlu", "rephrased_humaneval",
    }  # fmt: skip
    assert all(
        benchmark_items(spec).num_rows for spec in found.specs if spec.name in ("mmlu", "siqa", "rephrased_mmlu")
    )


def test_the_known_overlap_of_aime_and_math_is_found_by_a_scan(tmp_path: Path, shared_data: Path) -> None:
    benchmarks = find_benchmarks([str(shared_data / "benchmarks/math_test.parquet")]).specs
    settings = Contamination(benchmarks=benchmarks)
    corpus = str(shared_data / "sources/deepscaler_aime_train.json")
    answer, _ = scanned(tmp_path, scan_recipe([corpus], None, settings))
    assert answer.columns == {"instruction": "problem", "response": "solution"}
    (line,) = answer.benchmarks
    assert line.benchmark == "math" and 18 <= line.contaminated <= 60 and line.rows >= 20
