"""A package with entry points adds a stage, a source, a benchmark and an export to the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULE = '''
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import Filter
from filters.verdict import Check, first_failure
from pipelines.benchmarks import Benchmark
from pipelines.benchmarks.items import Item, table
from pipelines.records import RAW
from pipelines.sources.source import Source


class Shouting(Filter):
    """Drop responses in capitals.

    least: of exclamation marks.
    """

    kind: Literal["shouting"] = "shouting"
    least: int = 3

    def judge(self, records):
        marks = pc.count_substring(records["response"], "!").to_numpy()
        return first_failure([Check("shouting", marks >= self.least, marks, self.least)])


def generate(rows, seed):
    texts = ["fine" if n % 4 else "HELP!!!" for n in range(rows)]
    yield pa.table(
        [range(rows), [None] * rows, ["direct"] * rows, [f"question {n}" for n in range(rows)], texts, [None] * rows],
        schema=RAW,
    )


SHOUTS = Source("shouts", "Shouts", "", "1", "CC0-1.0", ("direct",), generate=generate)

def quiz(rows, seed):
    question = "What is the name of the lake number {} in the north of the country of Quiz?"
    return table("quiz", "quiz_test", [(n, Item(question.format(n), "x")) for n in range(rows)])


QUIZ = Benchmark("quiz", "Quiz", "", "1", "CC0-1.0", generate=quiz)
'''

EXPORT = """
from pipelines.export import jsonl


def export(run, out):
    return jsonl.export(run, out)
"""


def install(folder: Path, name: str, version: str, entries: dict[str, list[str]], **modules: str) -> Path:
    """A package as pip leaves it: modules, and a folder with its metadata."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [line for group, values in entries.items() for line in (f"[winnow.{group}]", *values)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    return folder


def winnow(cwd: Path, *arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}:{path}"}
    command = [sys.executable, "-m", "flows.cli.main", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


ENTRIES = {
    "stages": ["shouting = loud:Shouting"],
    "sources": ["shouts = loud:SHOUTS"],
    "benchmarks": ["quiz = loud:QUIZ"],
    "exports": ["loud-lines = loud_export:export"],
}
RECIPE = """
name: loud
sources: [{name: shouts, adapter: shouts, rows: 40}]
stages: [{kind: shouting, least: 2}]
exact_duplicates: false
near_duplicates: false
contamination: {benchmarks: [{name: quiz, rows: 3}]}
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 129}
"""


def build(folder: Path, path: Path) -> Any:
    (folder / "loud.yaml").write_text(RECIPE)
    done = winnow(folder, "build", "loud.yaml", "--engine", "local", "--workers", "2", "--json", path=path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_plugin_adds_a_stage_a_source_a_benchmark_and_an_export(tmp_path: Path) -> None:
    first = install(tmp_path / "first", "loud", "1.0", ENTRIES, loud=MODULE, loud_export=EXPORT)
    answer = build(tmp_path, first)
    assert answer["rows_in"] == 40 and answer["dropped"] == {"shouting/shouting": 10}
    done = winnow(tmp_path, "export", "latest", "--format", "loud-lines", "--out", "out", path=first)
    assert done.returncode == 0, done.stderr
    assert sum(len(file.read_text().splitlines()) for file in (tmp_path / "out").glob("*.jsonl")) == 30
    listed = winnow(tmp_path, "stages", "shouting", "--json", path=first)
    (entry,) = json.loads(listed.stdout)["stages"]
    assert entry["package"] == "loud 1.0" and entry["parameters"][0]["name"] == "least"

    # The version is in the keys of the steps that use the plugin, and of those after them.
    second = install(tmp_path / "second", "loud", "1.1", ENTRIES, loud=MODULE, loud_export=EXPORT)
    keys = [{step["name"]: step["key"] for step in made["steps"]} for made in (answer, build(tmp_path, second))]
    assert all(keys[0][name] != keys[1][name] for name in ("ingest", "refine", "benchmark-index", "pack"))


def test_an_error_in_a_stage_of_a_plugin_names_the_stage_and_the_file(tmp_path: Path) -> None:
    broken = MODULE.replace('pc.count_substring(records["response"], "!").to_numpy()', 'int("three")')
    path = install(tmp_path / "broken", "loud", "1.2", ENTRIES, loud=broken, loud_export=EXPORT)
    (tmp_path / "loud.yaml").write_text(RECIPE)
    done = winnow(tmp_path, "build", "loud.yaml", "--engine", "local", path=path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    said = ".parquet: the stage shouting raised ValueError: invalid literal for int() with base 10: 'three' ("
    assert said in done.stderr and f"{path}/loud.py, line 25)" in done.stderr, done.stderr


@pytest.mark.parametrize("end", ["__import__('os')._exit(0)", "next(iter(()))"], ids=["os._exit(0)", "StopIteration"])
@pytest.mark.fault("a plugin ends the process with exit code 0, or raises StopIteration", "an error, exit code 1")
def test_a_plugin_cannot_end_a_build_as_if_it_had_succeeded(tmp_path: Path, end: str) -> None:
    broken = MODULE.replace('pc.count_substring(records["response"], "!").to_numpy()', end)
    path = install(tmp_path / "broken", "loud", "1.3", ENTRIES, loud=broken, loud_export=EXPORT)
    (tmp_path / "loud.yaml").write_text(RECIPE)
    for words in ([], ["--workers", "1"], ["--json"]):
        done = winnow(tmp_path, "build", "loud.yaml", "--engine", "local", *words, path=path)
        assert done.returncode == 1 and "error: " in done.stderr, (done.returncode, done.stderr)
        assert not (tmp_path / "winnow-data" / "runs").exists()


def test_the_parameters_of_a_stage_of_a_plugin_are_checked(tmp_path: Path) -> None:
    path = install(tmp_path / "plugin", "loud", "1.0", ENTRIES, loud=MODULE, loud_export=EXPORT)
    for slip, message in (("{kind: shouting, leest: 2}", "leest"), ("{kind: shouting, least: many}", "least")):
        (tmp_path / "slip.yaml").write_text(RECIPE.replace("{kind: shouting, least: 2}", slip))
        done = winnow(tmp_path, "build", "slip.yaml", "--engine", "local", path=path)
        assert done.returncode == 2 and message in done.stderr and "pydantic" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("entries", "kind", "message"),
    [
        (["broken = nowhere:Stage"], "broken", "odd 2.0: winnow.stages: broken = nowhere:Stage: cannot be imported"),
        (["wrong = odd:VALUE"], "wrong", "odd 2.0: winnow.stages: wrong = odd:VALUE: expected a class derived"),
        (["shouting = odd:VALUE"], "shouting", "'shouting' is declared by loud 1.0 and by odd 2.0"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_named_and_breaks_no_other_recipe(
    tmp_path: Path, entries: list[str], kind: str, message: str
) -> None:
    path = install(tmp_path / "plugins", "loud", "1.0", {"stages": ENTRIES["stages"]}, loud="Shouting = None")
    install(path, "odd", "2.0", {"stages": entries}, odd="VALUE = 1")
    (tmp_path / "r.yaml").write_text(
        RECIPE.replace("{kind: shouting, least: 2}", f"{{kind: {kind}}}").replace("adapter: shouts", "adapter: gsm8k")
    )
    done = winnow(tmp_path, "build", "r.yaml", "--engine", "local", path=path)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert winnow(tmp_path, "--help", path=path).returncode == 0
    assert winnow(tmp_path, "stages", "loop", path=path).returncode in (0, 2)
    assert winnow(tmp_path, "plan", "demo", path=path).returncode == 0


def test_a_name_of_winnows_own_cannot_be_taken(tmp_path: Path) -> None:
    path = install(tmp_path / "plugins", "odd", "2.0", {"stages": ["loop = odd:VALUE"]}, odd="VALUE = 1")
    done = winnow(tmp_path, "stages", path=path)
    assert done.returncode == 2 and "'loop' is declared by odd 2.0 and by Winnow itself" in done.stderr
    assert winnow(tmp_path, "plan", "demo", path=path).returncode == 0
