"""The contamination step: rows that hold test items go with their evidence, whatever the workers and shards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from filters.stage import Outcome
from pipelines.errors import InputError, RecipeError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, StepContext, Target, commit
from pipelines.recipe import BenchmarkSpec, Contamination, Recipe, SourceSpec
from pipelines.records import DROPPED, RECORD, conform
from pipelines.sources.generated.items import is_leaked
from pipelines.steps.benchmark_index import benchmark_items
from pipelines.steps.contamination_report import REPORT
from pipelines.steps.ingest import ingest
from tests.steps import decontaminate, plain_step

GENERATED = BenchmarkSpec(name="generated", rows=60)
SETTINGS = Contamination(benchmarks=(GENERATED,))


def rows_of(texts: Sequence[tuple[str, str]], source: str = "planted") -> pa.Table:
    """Records of (instruction, response) texts."""
    raw = pa.table(
        {
            "row": pa.array(range(len(texts)), pa.int64()),
            "variant": pa.array([""] * len(texts)),
            "condition": pa.array(["direct"] * len(texts)),
            "instruction": pa.array([text[0] for text in texts]),
            "response": pa.array([text[1] for text in texts]),
            "fault": pa.array([None] * len(texts), pa.string()),
        }
    )
    return conform(raw, source, "file").kept


def parent(run: Run, table: pa.Table, shards: int) -> Manifest:
    """A finished step whose records are `table`, cut into so many shards."""
    size = -(-table.num_rows // shards)

    def work(context: StepContext) -> list[Part]:
        return [
            commit(Outcome(cut, DROPPED.empty_table()), cut, Target(context.folder, n))
            for n, cut in enumerate(table.slice(n * size, size) for n in range(shards))
        ]

    return run.do(plain_step("planted", {"shards": shards, "rows": table.num_rows}), work)


@pytest.fixture(scope="module")
def planted() -> tuple[pa.Table, list[str]]:
    """60 records, six of which hold an item, and the ids of those items."""
    items = benchmark_items(GENERATED)
    picked = items.take([3, 8, 17, 25, 41, 52]).to_pylist()
    texts = [(f"Describe the number {n} on page {n + 7} of a book about gardens.", f"Page {n}.") for n in range(54)]
    for place, item in zip((0, 11, 23, 24, 40, 59), picked, strict=True):
        texts.insert(place, (f"Answer the question.\nQuestion: {item['question']}", item["answer"]))
    return rows_of(texts), [item["id"] for item in picked]


def read(refs: Sequence[storage.TableRef]) -> pa.Table:
    return pa.concat_tables([storage.read_parquet(ref.path) for ref in refs])


def test_rows_that_hold_items_go_with_their_evidence(tmp_path: Path, planted: tuple[pa.Table, list[str]]) -> None:
    table, leaked = planted
    run = Run(str(tmp_path), LocalEngine())
    made = decontaminate(run, parent(run, table, 3), SETTINGS)
    kept, dropped = read(made.shards), read(made.dropped)
    assert kept.schema.equals(RECORD) and kept.num_rows + dropped.num_rows == table.num_rows
    assert made.counts == {"contamination/test_leak": 6}
    assert set(dropped["stage"].to_pylist()) == {"contamination"} and set(dropped["reason"].to_pylist()) == {
        "test_leak"
    }
    evidence = [json.loads(text) for text in dropped["evidence"].to_pylist()]
    assert [told["item"] for told in evidence] == leaked
    for told, row in zip(evidence, dropped.to_pylist(), strict=True):
        assert told["benchmark"] == "generated" and told["rule"] == "ngram13" and told["score"] == 1.0
        assert told["span"] in row["instruction"]


def test_clean_ids_and_hits_outlive_the_scratch_folder(tmp_path: Path, planted: tuple[pa.Table, list[str]]) -> None:
    table, leaked = planted
    run = Run(str(tmp_path), LocalEngine())
    made = decontaminate(run, parent(run, table, 2), SETTINGS)
    (ids,) = [storage.read_json(ref.path) for ref in made.files("clean_ids")]
    assert ids["benchmark"] == "generated" and ids["items"] == 60
    assert ids["contaminated"] == leaked and ids["remaining"] == []
    assert sorted([*ids["clean"], *leaked]) == sorted(benchmark_items(GENERATED)["id"].to_pylist())
    assert set(ids["overlap"]) == {"13", "20"} and set(ids["overlap"]["20"]) <= set(ids["overlap"]["13"])
    long = {row["id"]: len(row["question"].split()) for row in benchmark_items(GENERATED).to_pylist()}
    for length in ("13", "20"):  # a leaked item that is long enough is covered whole
        assert all(ids["overlap"][length][item] == 1.0 for item in leaked if long[item] >= int(length))
    assert any(long[item] >= 20 for item in leaked)
    hits = read(made.tables("hits"))
    assert hits.schema.equals(REPORT)
    texts = {row["id"]: row for row in table.to_pylist()}
    leaky = {hit["row"] for hit in hits.to_pylist() if hit["class"] == "test_leak"}
    for hit in hits.to_pylist():
        cut = texts[hit["row"]][hit["field"]][hit["start"] : hit["end"]]
        assert cut == hit["span"] or cut.startswith(hit["span"].removesuffix(" …"))
        assert hit["dropped"] == (hit["row"] in leaky)
    assert all(storage.digest(ref.path) == ref.digest for ref in made.all_files)
    assert not Path(tmp_path, "steps", f"{made.step}-{made.key}", "work").exists()


def test_the_recipe_chooses_the_classes_that_drop(tmp_path: Path, planted: tuple[pa.Table, list[str]]) -> None:
    table, leaked = planted
    run = Run(str(tmp_path), LocalEngine())
    made = decontaminate(run, parent(run, table, 1), SETTINGS.model_copy(update={"drop": ()}))
    assert made.rows_dropped == 0 and made.rows_kept == table.num_rows
    (ids,) = [storage.read_json(ref.path) for ref in made.files("clean_ids")]
    assert ids["contaminated"] == leaked == ids["remaining"]


def test_near_leaks_stay_unless_the_recipe_drops_them_and_then_say_what_differs(tmp_path: Path) -> None:
    item = next(row for row in benchmark_items(GENERATED).to_pylist() if len(row["question"].split()) > 20)
    number = next(word for word in item["question"].split() if word.isdigit())
    text = re.sub(rf"\b{number}\b", "977", item["question"], count=1)
    run = Run(str(tmp_path), LocalEngine())
    records = parent(run, rows_of([(text, "")]), 1)
    assert decontaminate(run, records, SETTINGS).rows_dropped == 0
    made = decontaminate(run, records, SETTINGS.model_copy(update={"drop": ("test_leak", "near_leak")}))
    assert made.counts == {"contamination/near_leak": 1}
    evidence = json.loads(read(made.dropped)["evidence"][0].as_py())
    assert (evidence["item"], evidence["missing"], evidence["added"]) == (item["id"], [number], ["977"])
    assert 0.8 <= evidence["score"] < 1.0


def test_a_solution_under_other_names_is_a_leak_of_its_item(tmp_path: Path) -> None:
    """Of a code benchmark of the user's own; a published rule of n-grams does not count it."""
    answer = (
        "    kept = []\n    for word in words:\n        if len(word) > least:\n            kept.append(word)\n"
        "    return kept\n"
    )
    asked = 'def long_words(words, least):\n    """ The words longer than least. """\n'
    items = tmp_path / "code_test.jsonl"
    items.write_text(json.dumps({"question": asked, "answer": answer}) + "\n")
    settings = Contamination(benchmarks=(BenchmarkSpec(name="code", adapter="items", path=str(items)),))
    text = answer.replace("kept", "out").replace("words", "xs").replace("word", "x").replace("least", "n")
    run = Run(str(tmp_path), LocalEngine())
    records = parent(run, rows_of([("Filter the list.", text), ("Filter it.", text.replace(">", "<"))]), 1)
    made = decontaminate(run, records, settings)
    assert made.counts == {"contamination/test_leak": 1}
    evidence = json.loads(read(made.dropped)["evidence"][0].as_py())
    assert evidence["item"] == "items/code_test/0" and evidence["span"] == text.strip() and evidence["score"] == 1.0
    by_grams = decontaminate(run, records, settings.model_copy(update={"rule": "gpt3"}))
    assert by_grams.rows_dropped == 0


def every_file(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for ref in manifest.all_files:
        yield ref.path.split("/steps/")[1], ref.digest


def test_bytes_do_not_depend_on_workers_and_rows_not_on_shards(
    tmp_path: Path, planted: tuple[pa.Table, list[str]]
) -> None:
    table, _ = planted
    made = []
    for workers, shards in ((1, 4), (2, 4), (1, 1)):
        with LocalEngine(workers) as engine:
            run = Run(str(tmp_path / f"{workers}-{shards}"), engine)
            made.append(decontaminate(run, parent(run, table, shards), SETTINGS))
    assert list(every_file(made[0])) == list(every_file(made[1]))
    for attribute in ("shards", "dropped"):
        assert read(getattr(made[0], attribute)).equals(read(getattr(made[2], attribute)))
    assert read(made[0].tables("hits")).equals(read(made[2].tables("hits")))


def test_a_row_that_is_common_across_shards_is_judged_by_the_whole_corpus(tmp_path: Path) -> None:
    """GPT-3's rule passes over 13-grams of more than ten rows, here twelve rows in twelve shards of one."""
    item = next(row for row in benchmark_items(GENERATED).to_pylist() if len(row["question"].split()) > 20)
    table = rows_of([(f"Number {n}. {item['question']}", "") for n in range(12)])
    run = Run(str(tmp_path), LocalEngine())
    settings = SETTINGS.model_copy(update={"rule": "gpt3"})
    assert decontaminate(run, parent(run, table, 12), settings).rows_dropped == 0
    assert decontaminate(run, parent(run, table.slice(0, 10), 10), settings).rows_dropped == 10


def test_the_key_holds_contents_and_names_and_no_folders(tmp_path: Path, planted: tuple[pa.Table, list[str]]) -> None:
    table, _ = planted
    line = json.dumps({"question": "How many sails did the keepers count before the storm broke?", "answer": "nine"})
    for folder, text in (("a", line), ("b", line), ("c", line.replace("nine", "ten"))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine_test.jsonl").write_text(text + "\n")
    run = Run(str(tmp_path / "root"), LocalEngine())
    records = parent(run, table, 1)
    keys = []
    for folder in ("a", "b", "c"):
        spec = BenchmarkSpec(name="mine", adapter="items", path=f"{tmp_path}/{folder}/*.jsonl")
        keys.append(decontaminate(run, records, Contamination(benchmarks=(spec,))).key)
    assert keys[0] == keys[1] != keys[2]
    checks = [done.reused for done in run.results if done.step.name == "contamination"]
    indexes = [done.reused for done in run.results if done.step.name == "benchmark-index"]
    assert checks == indexes == [False, True, False]


def refused(tmp_path: Path, settings: dict[str, Any]) -> str:
    run = Run(str(tmp_path), LocalEngine())
    with pytest.raises((RecipeError, InputError)) as error:
        decontaminate(run, parent(run, rows_of([("a", "b")]), 1), Contamination.model_validate(settings))
    return str(error.value)


def test_mistakes_are_named_before_any_work(tmp_path: Path) -> None:
    good = {"name": "generated", "rows": 10}
    assert "unknown rule 'gpt4'; did you mean 'gpt3'?" in refused(tmp_path, {"benchmarks": [good], "rule": "gpt4"})
    assert "did you mean 'test_leak'?" in refused(tmp_path, {"benchmarks": [good], "drop": ["test_leaks"]})
    assert "did you mean 'gsm8k'?" in refused(tmp_path, {"benchmarks": [{"name": "gsm8"}]})
    assert "`rows: 300`" in refused(tmp_path, {"benchmarks": [{"name": "generated"}]})
    assert "leave out `path`" in refused(tmp_path, {"benchmarks": [{**good, "path": "x"}]})
    assert "give the `path`" in refused(tmp_path, {"benchmarks": [{"name": "gsm8k"}]})
    assert "each its own name" in refused(tmp_path, {"benchmarks": [good, good]})
    assert "no such file" in refused(
        tmp_path, {"benchmarks": [{"name": "gsm8k", "path": str(tmp_path / "none.jsonl")}]}
    )
    assert not any((tmp_path / "steps").glob("contamination-*/manifest.json"))


def test_the_leaks_that_the_generated_sources_carry_are_found(tmp_path: Path) -> None:
    """What the demo's sources plant on purpose, and nothing of what they do not."""
    source = SourceSpec(name="generated_web", adapter="generated_web", rows=800)
    run = Run(str(tmp_path), LocalEngine())
    records = ingest(run, Recipe(name="leaks", sources=(source,)))
    settings = Contamination(benchmarks=(BenchmarkSpec(name="generated", rows=300),))
    made = decontaminate(run, records, settings)
    (ids,) = [storage.read_json(ref.path) for ref in made.files("clean_ids")]
    numbers = {int(item.rsplit("/", 1)[1]) for item in ids["contaminated"]}
    assert numbers and all(is_leaked(number) for number in numbers)


# ------------------------------------------------------------------------------------------------------------ real data


def test_rows_in_the_mould_of_test_items_stay_and_their_hits_say_template(tmp_path: Path, shared_data: Path) -> None:
    """BoolQ train beside BoolQ test, through the step: 1,503 items share a 13-gram, two are asked again."""
    spec = BenchmarkSpec(name="boolq", path=f"{shared_data}/benchmarks/boolq_test.json")
    source = SourceSpec(name="boolq_train", adapter="boolq", path=f"{shared_data}/sources/boolq_train.json")
    run = Run(str(tmp_path), LocalEngine())
    made = decontaminate(run, ingest(run, Recipe(name="trap", sources=(source,))), Contamination(benchmarks=(spec,)))
    assert 0 < made.rows_dropped <= 5
    (ids,) = [storage.read_json(ref.path) for ref in made.files("clean_ids")]
    assert 0 < len(ids["contaminated"]) <= 5 and ids["items"] == 3270
    assert ids["sources"]["boolq_train"]["template"] > 1000
    assert ids["rules"]["open_r1"]["items"] > 10 * ids["rules"]["ngram13"]["items"]
