"""`store`: whatever a build writes besides packs, training, exports and answers are the same."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from flows.build import BuildAnswer, build
from flows.export import export
from flows.verify import verify
from flows.why import why
from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.corpus_manifest import CorpusManifest
from pipelines.ledger.runs import open_run
from pipelines.plan import plan
from pipelines.recipe import load
from pipelines.steps.token_rows import TokenShard, has_ids, read_tokens

ROWS = 500
FORMS = {"all": '["corpus","tokens"]', "corpus": '["corpus"]', "tokens": '["tokens"]', "none": "[]"}
RECIPE = """
name: stored
sources:
  - {name: mine, path: "RECORDS", columns: {instruction: question, response: answer}, condition: direct}
  - {name: generated_words, adapter: generated_words, rows: 300}
stages: [{kind: repair}, {kind: loop}]
near_duplicates: {instruction: 0.8, response: 0.8}
contamination: {benchmarks: [{name: generated, rows: 50}]}
tokenizer: {vocab_size: 512}
sampling:
  epochs: 2
  context: 65
  validation: 0.05
  weights: {source: {generated_words: 0.5}}
  groups: [{prefix: mine, max_per_file: 200}]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BuildAnswer]:
    """The same recipe built with each `store`, each below a root of its own."""
    folder = tmp_path_factory.mktemp("store")
    words = ["river", "stone", "lamp", "cloud", "paper", "engine", "garden", "winter", "silver", "road", "music"]
    questions = [f"Why is the {words[n % 11]} of {n} \u00e9t\u00e9 near the {words[n // 11 % 11]}" for n in range(ROWS)]
    because = [f"Because {words[n * 7 % 11]} {n} has {'so ' * (n % 5)}many. " * (n % 6 + 1) for n in range(ROWS)]
    rows = [{"question": questions[n], "answer": because[n] if n % 97 else ""} for n in range(ROWS)]
    for file in range(3):
        lines = "".join(json.dumps(row) + "\n" for row in rows[file::3])
        (folder / f"rows-{file}.jsonl").write_text(lines)
    recipe = folder / "stored.yaml"
    recipe.write_text(RECIPE.replace("RECORDS", f"{folder}/rows-*.jsonl"))
    answers = {}
    for number, (name, store) in enumerate(FORMS.items()):
        workers = 1 + number % 2
        answers[name] = build(str(recipe), str(folder / name), "local", workers, (f"store={store}",))
    return answers


def digests(files: list[str]) -> list[str]:
    return [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]


def test_packs_are_the_same_bytes_whatever_is_stored(built: dict[str, BuildAnswer]) -> None:
    assert len({tuple(digests(list(answer.tokens))) for answer in built.values()}) == 1
    run = open_run(built["none"].root, "latest")
    packs = run.step("pack")
    assert packs is not None and packs.counts["held_out"] > 5 and packs.counts["validation_sequences"] > 5
    assert packs.counts["unused/left_out_by_weight"] > 5
    assert built["none"].dropped["tokens/empty_response"] > 1


def test_tokens_that_are_not_stored_are_read_as_those_that_are(built: dict[str, BuildAnswer]) -> None:
    stored, lengths = (open_run(built[name].root, "latest") for name in ("all", "none"))
    steps = [run.step("tokens") for run in (stored, lengths)]
    tokenizer = stored.step("tokenizer")
    assert steps[0] is not None and steps[1] is not None and tokenizer is not None
    assert all(map(has_ids, steps[0].shards)) and not any(map(has_ids, steps[1].shards))
    file = tokenizer.file("tokenizer")
    for left, right, records in zip(steps[0].shards, steps[1].shards, lengths.records.shards, strict=True):
        one = storage.map_arrow(left.path)
        again = read_tokens(TokenShard(right, records), file)
        assert again.to_pylist() == one.to_pylist() and again.schema.types == one.schema.types


@pytest.mark.parametrize("form", ["hrm-text", "megatron", "jsonl", "hf"])
def test_exports_are_the_same_whatever_is_stored(built: dict[str, BuildAnswer], form: str, tmp_path: Path) -> None:
    made = []
    for name in ("all", "none"):
        folder = tmp_path / name / "out"
        answer = export("latest", form, str(folder), built[name].root)
        assert answer.files
        kept = [file for file in answer.files if Path(file).suffix in (".npy", ".bin", ".idx", ".jsonl", ".parquet")]
        assert kept, answer.files
        made.append((kept, digests([str(folder / file) for file in kept])))
    assert made[0] == made[1]


def test_a_build_without_the_corpus_names_no_files_of_it_and_keeps_its_text_once(
    built: dict[str, BuildAnswer],
) -> None:
    assert built["all"].corpus and built["corpus"].corpus and not built["none"].corpus and not built["tokens"].corpus
    texts = {}
    for name, answer in built.items():
        records = open_run(answer.root, "latest").records
        texts[name] = sum(file.bytes for file in records.shards)
        assert built[name].rows_kept == built["all"].rows_kept == sum(file.rows for file in records.shards)
    assert texts["all"] == texts["corpus"] > 3 * texts["none"] == 3 * texts["tokens"]


@pytest.mark.parametrize("name", list(FORMS))
def test_verify_and_why_answer_whatever_is_stored(built: dict[str, BuildAnswer], name: str) -> None:
    root = built[name].root
    assert verify("latest", root, deep=True).rows == built[name].rows_kept
    for row in ("mine/rows-0/0", "mine/rows-0/5", "mine/rows-1/7", "generated_words/generated/0"):
        fates = [why(row, root=built[of].root) for of in (name, "all")]
        assert fates[0].verdict == fates[1].verdict
        told = [[(one.step, one.verdict, one.reason, one.row) for one in fate.history] for fate in fates]
        assert told[0] == told[1]
        places = [[(one.split, one.epoch, one.pack) for one in fate.history[-1].places or ()] for fate in fates]
        assert places[0] == places[1]


def test_a_recipe_that_stores_all_has_the_keys_of_one_that_says_nothing(
    built: dict[str, BuildAnswer], tmp_path: Path
) -> None:
    recipe = Path(built["all"].root).parent / "stored.yaml"
    assert "store" not in load(str(recipe), ['store=["tokens","corpus"]']).model_dump(mode="json")
    again = build(str(recipe), built["all"].root, "local", 1)
    assert all(step.reused for step in again.steps)


def test_a_plan_prices_what_is_stored(built: dict[str, BuildAnswer]) -> None:
    recipe = Path(built["all"].root).parent / "stored.yaml"
    steps = {
        name: {step.name: step.disk_bytes or 0 for step in plan(load(str(recipe), [f"store={store}"])).steps}
        for name, store in FORMS.items()
    }
    assert steps["none"]["contamination"] < steps["all"]["contamination"] == steps["corpus"]["contamination"]
    assert steps["none"]["tokens"] < steps["all"]["tokens"] == steps["tokens"]["tokens"]
    assert sum(steps["none"].values()) < sum(steps["all"].values())


@pytest.mark.parametrize("form", ["hrm-text", "megatron", "jsonl"])
@pytest.mark.parametrize("name", ["all", "none"])
def test_an_export_names_a_file_that_changed_since_it_was_written(
    built: dict[str, BuildAnswer], name: str, form: str, tmp_path: Path
) -> None:
    root = shutil.copytree(built[name].root, tmp_path / "root")
    run = open_run(str(root), "latest")
    tokens = run.step("tokens")
    assert tokens is not None
    changed = run.records.shards[0] if form == "jsonl" else tokens.shards[0]
    with Path(changed.path).open("r+b") as file:
        file.seek(changed.bytes // 2)
        byte = file.read(1)
        file.seek(changed.bytes // 2)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CheckFailed, match="changed since it was written"):
        export("latest", form, str(tmp_path / "out"), str(root))


def test_text_that_gives_other_tokens_than_were_counted_is_an_error(
    built: dict[str, BuildAnswer], tmp_path: Path
) -> None:
    run = open_run(built["none"].root, "latest")
    tokens, tokenizer = run.step("tokens"), run.step("tokenizer")
    assert tokens is not None and tokenizer is not None
    records = run.records.shards[0]
    table = storage.read_parquet(records.path)
    longer = pa.array([text + " and more" for text in table["response"].to_pylist()])
    at = table.schema.get_field_index("response")
    other = storage.write_parquet(f"{tmp_path}/other.parquet", table.set_column(at, table.schema.field(at), longer))
    with pytest.raises(CheckFailed, match=r"other.parquet: its texts do not have as many tokens as .*tokens-"):
        read_tokens(TokenShard(tokens.shards[0], other), tokenizer.file("tokenizer"))


def test_a_manifest_of_a_corpus_does_not_say_what_its_author_stored(
    built: dict[str, BuildAnswer], tmp_path: Path
) -> None:
    made = [export("latest", "manifest", str(tmp_path / name), built[name].root) for name in ("all", "none")]
    heads = [CorpusManifest(f"{one.folder}/manifest.arrow").head for one in made]
    assert "store" not in heads[1].recipe and heads[0].recipe == heads[1].recipe
