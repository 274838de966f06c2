"""The commands: help with an example, one JSON object on stdout, exit codes, and messages that name the fix."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.cli.app import app
from pipelines.ledger.runs import open_run

ROOT = Path(__file__).parents[3]
WINNOW = Path(sys.executable).parent / "winnow"
COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands if command.callback)
RECIPE = """
name: pairs
sources:
  - {name: sums, adapter: generated_arithmetic, rows: 300}
  - {name: mine, path: mine.jsonl, columns: {instruction: q, response: a}, condition: direct}
stages: [{kind: placeholder}, {kind: length, max_chars: 3000}]
contamination: {benchmarks: [{name: generated, rows: 300}]}
tokenizer: {vocab_size: 600}
sampling: {epochs: 1, context: 257}
"""


@pytest.fixture(autouse=True, scope="module")
def reported(server: dict[str, str]) -> Iterator[None]:
    """All commands here report to one Prefect server, which is faster than one each."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_HOME", "PREFECT_API_URL"):
            patch.setenv(name, server[name])
        yield


def winnow(*words: str | Path, folder: Path, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([WINNOW, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert check is None or done.returncode == check, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def built(reported: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a recipe that was built twice, and the JSON answer of the first time."""
    folder = tmp_path_factory.mktemp("built")
    rows = [{"q": "Name a colour.", "a": "Blue."}, {"q": "Name a colour.", "a": "Blue."}, {"q": "Nothing?", "a": None}]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "pairs.yaml").write_text(RECIPE, encoding="utf-8")
    first = winnow("build", "pairs.yaml", "--engine", "local", "--workers", "1", "--json", folder=folder)
    answer: dict[str, Any] = json.loads(first.stdout)
    winnow("build", "pairs.yaml", "--engine", "local", "--set", "near_duplicates=false", "--json", folder=folder)
    return folder, answer


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_stands_in_the_readme(command: str) -> None:
    text = subprocess.run([WINNOW, command, "--help"], capture_output=True, text=True, check=True).stdout
    assert re.search(rf"Example: +`?winnow {command}", text), text
    assert f"| `winnow {command}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_commands_of_the_design_are_there() -> None:
    design = {"build", "plan", "why", "diff", "report", "verify", "export", "train", "evaluate", "generate"}
    assert design <= set(COMMANDS)


def test_build_answers_with_one_json_object_that_adds_up(built: tuple[Path, dict[str, Any]]) -> None:
    _, answer = built
    assert set(answer) == {"run", "root", "rows_in", "rows_kept", "dropped", "steps", "corpus", "tokens", "report"}
    assert answer["rows_in"] == 303 and answer["rows_in"] == answer["rows_kept"] + sum(answer["dropped"].values())
    assert answer["dropped"]["conform/null_response"] >= 1
    assert answer["dropped"]["exact_duplicate/exact_duplicate"] >= 1
    for step in answer["steps"]:
        keys = {"name", "key", "reused", "rows_in", "rows_kept", "seconds", "shards", "files"}
        assert set(step) == keys and not step["reused"]
        assert (step["rows_in"] is None) == (step["rows_kept"] is None)
        assert step["shards"] in step["files"].values()
    without_rows = {step["name"] for step in answer["steps"] if step["rows_kept"] is None}
    assert without_rows == {"benchmark-index", "tokenizer", "pack", "training-overlap"}
    assert all(Path(path).is_file() for path in [*answer["corpus"], *answer["tokens"], answer["report"]])


def test_changing_one_setting_makes_only_the_steps_that_depend_on_it(built: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = built
    done = winnow(
        "build", "pairs.yaml", "--engine", "local", "--set", "stages.length.max_chars=2000", "--json", folder=folder
    )
    steps = {step["name"]: step["reused"] for step in json.loads(done.stdout)["steps"]}
    assert steps.pop("ingest") is True and steps.pop("benchmark-index", True) is True
    assert not any(steps.values())


def test_a_second_build_reuses_every_step(built: tuple[Path, dict[str, Any]]) -> None:
    folder, answer = built
    again = json.loads(winnow("build", "pairs.yaml", "--engine", "local", "--json", folder=folder).stdout)
    assert all(step["reused"] for step in again["steps"]) and again["run"] == answer["run"]
    assert again["corpus"] == answer["corpus"] and again["tokens"] == answer["tokens"]


def test_why_shows_the_fate_of_kept_and_dropped_rows(built: tuple[Path, dict[str, Any]]) -> None:
    folder, answer = built

    def why(row: str) -> dict[str, Any]:
        return dict(json.loads(winnow("why", row, "--run", answer["run"], "--json", folder=folder).stdout))

    assert why("mine/mine/0")["verdict"] == "kept" and why("mine/mine/0")["response"] == "Blue."
    twin = why("mine/mine/1")["history"][-1]
    assert twin["reason"] == "exact_duplicate" and twin["evidence"]["twin"] == "mine/mine/0"
    assert why("mine/mine/2")["history"] == [
        why("mine/mine/2")["history"][0]
        | {"step": "ingest", "verdict": "dropped", "stage": "conform", "reason": "null_response"}
    ]


def test_diff_names_the_setting_and_the_rows_that_changed(built: tuple[Path, dict[str, Any]]) -> None:
    folder, answer = built
    runs = sorted(path.name for path in (folder / "winnow-data" / "runs").iterdir())
    other = next(run for run in runs if run != answer["run"])
    changes = json.loads(winnow("diff", answer["run"], answer["run"], "--json", folder=folder).stdout)
    assert changes["settings"] == {} and all(step["same"] for step in changes["steps"])
    changes = json.loads(winnow("diff", answer["run"], other, "--json", folder=folder).stdout)
    assert changes["settings"]


def test_similar_and_clusters_answer_with_one_json_object(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, answer = built
    corpus = [row for path in answer["corpus"] for row in pq.read_table(path).to_pylist()]
    asked = max(corpus, key=lambda row: len(row["instruction"]))
    (tmp_path / "asked.txt").write_text(asked["instruction"], encoding="utf-8")
    words = ["similar", answer["run"], "--file", tmp_path / "asked.txt", "--on", "instruction", "--top", "1"]
    found = json.loads(winnow(*words, "--json", folder=folder).stdout)
    assert found["rows"] == answer["rows_kept"] and found["run"] == answer["run"]
    assert found["matches"][0]["jaccard"] == 1 and found["matches"][0]["instruction"] == asked["instruction"]
    shown = winnow(*words, folder=folder)
    assert found["matches"][0]["id"] in shown.stdout
    gone = json.loads(winnow("clusters", answer["run"], "--json", folder=folder).stdout)
    duplicates = {key: rows for key, rows in answer["dropped"].items() if "duplicate" in key}
    assert sum(gone["rows_dropped"].values()) == sum(duplicates.values())
    (mine,) = (cluster for cluster in gone["largest"] if cluster["kept"] == "mine/mine/0")
    assert [member["id"] for member in mine["members"]] == ["mine/mine/1"] and mine["rows"] == 2
    assert "mine/mine/0" in winnow("clusters", answer["run"], "--top", "200", folder=folder).stdout


def test_plan_gives_the_shares_of_duplicates_found_and_missed(built: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = built
    shown = winnow("plan", "pairs.yaml", "--set", "near_duplicates.preset=fineweb", folder=folder).stdout
    assert re.search(r"of pairs with Jaccard 0\.80 +\S+ +92\.4 % are found and removed, 7\.6 % missed", shown)
    recall = json.loads(winnow("plan", "pairs.yaml", "--json", folder=folder).stdout)["near_duplicates"]
    assert [point["jaccard"] for point in recall["curve"]][::2] == [0.5, 0.6, 0.7, 0.8, 0.9]
    assert {line["name"] for line in recall["loosest_first"]} > {"fineweb", "dolma3", "curator"}


def test_sources_are_listed_with_rows_licence_conditions_and_the_evaluation_sets_in_them(tmp_path: Path) -> None:
    listed = {one["name"]: one for one in json.loads(winnow("sources", "--json", folder=tmp_path).stdout)["sources"]}
    assert listed["gsm8k"]["rows"] == 7473 and listed["gsm8k"]["path"] == [
        "hf://datasets/openai/gsm8k/main/train-*.parquet"
    ]
    assert listed["flan"]["rows"] is None and listed["flan"]["conditions"] == ["direct", "cot"]
    shown = winnow("sources", folder=tmp_path).stdout
    assert re.search(r"^synth +.*79,648,272 +CDLA-Permissive-2\.0 +main +SYNTH", shown, re.MULTILINE)
    assert re.search(r"^omnimath .*\n +warning: contains omni_math/test by construction", shown, re.MULTILINE)


def test_a_plan_names_missing_files_even_with_brackets_in_their_names(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: r\nsources: [{name: mine, path: 'part-[ab].jsonl', condition: direct}]\n")
    shown = winnow("plan", "r.yaml", folder=tmp_path).stdout
    assert re.search(r"mine +missing +\S*/part-\[ab\]\.jsonl", shown) and "missing: mine" in shown
    assert "Not included (size unknown): mine" in shown


def test_verify_finds_a_flipped_byte(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, answer = built
    root = tmp_path / "root"
    subprocess.run(["cp", "-r", folder / "winnow-data", root], check=True)
    assert (
        json.loads(winnow("verify", answer["run"], "--root", root, "--json", folder=folder).stdout)["rows"]
        == answer["rows_kept"]
    )
    shard = root / Path(answer["corpus"][0]).relative_to(answer["root"])
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    done = winnow("verify", answer["run"], "--root", root, folder=folder, check=1)
    assert str(shard) in done.stderr and "changed since it was written" in done.stderr


@pytest.mark.parametrize("form", ["hf", "jsonl", "messages", "prompt-completion", "megatron", "hrm-text"])
def test_export_writes_every_row_in_each_format(built: tuple[Path, dict[str, Any]], tmp_path: Path, form: str) -> None:
    folder, answer = built
    done = winnow("export", answer["run"], "--format", form, "--out", tmp_path / "out", "--json", folder=folder)
    exported = json.loads(done.stdout)
    packs = open_run(answer["root"], answer["run"]).step("pack")
    assert packs is not None
    # Upstream's layout is what is trained on: rows held out for validation are in none of its epochs.
    held_out = packs.counts["held_out"] if form == "hrm-text" else 0
    assert exported["rows"] + held_out == answer["rows_kept"]
    assert all((tmp_path / "out" / name).is_file() for name in exported["files"])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["build", "nowhere.yaml"], 2, "nowhere.yaml: no such recipe"),
        (["build", "pairs.yaml", "--engine", "rat"], 2, "did you mean 'ray'?"),
        (["build", "pairs.yaml", "--set", "stages.lenght.max_chars=1"], 2, "did you mean 'length'?"),
        (["build", "pairs.yaml", "--set", "sources.mine.path=gone.jsonl"], 2, "gone.jsonl: no such file"),
        (["build", "pairs.yaml", "--set", "sources.mine.columns.response=b"], 2, "'b'"),
        (
            ["build", "pairs.yaml", "--root", "/proc/winnow", "--engine", "local"],
            2,
            "/proc/winnow: cannot be written to",
        ),
        (["why", "mine/mine/99"], 2, "mine/mine has 3 rows, from mine/mine/0 to mine/mine/2"),
        (["why", "mine/mime/1"], 2, "did you mean mine/mine/1?"),
        (["why", "mien/mine/1"], 2, "did you mean mine/mine/1?"),
        (["stages", "lenght"], 2, "did you mean 'length'?"),
        (["why", "mine/mine/0", "--run", "nine"], 2, "no such run"),
        (["report", "latest", "--root", "elsewhere"], 2, "no runs here"),
        (["export", "latest", "--format", "csv", "--out", "x"], 2, "--format csv"),
        (["similar", "latest"], 2, "either `--text TEXT` or `--file PATH`"),
        (["similar", "latest", "--text", "Too short."], 2, "the text is too short"),
        (["similar", "latest", "--file", "gone.txt"], 2, "gone.txt: no such file"),
        (["similar", "latest", "--text", "a b c d e", "--on", "respnse"], 2, "did you mean 'response'?"),
        (["evaluate", "latest"], 2, "winnow train"),
        (["frobnicate"], 2, "frobnicate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_ends_with_its_exit_code_and_a_message_that_names_the_fix(
    built: tuple[Path, dict[str, Any]], words: list[str], code: int, message: str
) -> None:
    done = winnow(*words, folder=built[0], check=code)
    assert message in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_a_flag_overrides_the_environment(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = built
    environment = os.environ | {"WINNOW_ROOT": str(tmp_path / "environment")}
    done = subprocess.run([WINNOW, "report"], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert "environment" in done.stderr
    command = [WINNOW, "report", "--root", tmp_path / "flag"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert "flag" in done.stderr


def test_thinking_that_comes_through_fails_the_run_and_its_mend_helps(built: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = built
    tangled = "<think>so</think>four " + "<|start" * 20 + "<|start|>" + "|>" * 20
    rows = [{"q": "One?", "a": "<think>so</think>one"}, {"q": "Four?", "a": tangled}]
    (folder / "tangled.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    recipe = RECIPE.replace("name: pairs", "name: tangled").replace("mine.jsonl", "tangled.jsonl")
    (folder / "tangled.yaml").write_text(recipe.replace("{kind: placeholder}", "{kind: strip_thinking}"))
    done = winnow("build", "tangled.yaml", "--engine", "local", folder=folder, check=1)
    assert "row mine/tangled/1: its response still holds thinking" in done.stderr and "Traceback" not in done.stderr
    mended = recipe.replace("{kind: placeholder}", "{kind: thinking}, {kind: strip_thinking}")
    (folder / "tangled.yaml").write_text(mended, encoding="utf-8")
    answer = json.loads(winnow("build", "tangled.yaml", "--engine", "local", "--json", folder=folder).stdout)
    assert answer["dropped"]["thinking/thinking_tangled"] == 1
    page = Path(answer["report"]).read_text(encoding="utf-8")
    assert "Thinking removed" in page


def test_a_source_of_which_nothing_is_kept_is_named(built: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = built
    (folder / "blank.jsonl").write_text('{"q": "Say something.", "a": ""}\n' * 3, encoding="utf-8")
    (folder / "empty.jsonl").write_text("", encoding="utf-8")
    text = RECIPE.replace("mine.jsonl", "blank.jsonl")
    (folder / "blank.yaml").write_text(text.replace("name: pairs", "name: blank"), encoding="utf-8")
    done = winnow("build", "blank.yaml", "--engine", "local", folder=folder)
    assert "no row of source 'mine' was kept" in done.stderr
    only = text.replace("  - {name: sums, adapter: generated_arithmetic, rows: 300}\n", "")
    (folder / "blank.yaml").write_text(only.replace("name: pairs", "name: blank"), encoding="utf-8")
    done = winnow("build", "blank.yaml", "--engine", "local", folder=folder, check=1)
    assert "no row is left of 3: placeholder/empty_response 3" in done.stderr
    (folder / "blank.yaml").write_text(only.replace("blank.jsonl", "empty.jsonl"), encoding="utf-8")
    done = winnow("build", "blank.yaml", "--engine", "local", folder=folder, check=1)
    assert "no row is left of 0: the sources have none" in done.stderr
