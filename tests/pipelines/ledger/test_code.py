"""The key of a step holds what its work runs: no function of it is missing, and a change makes the step again."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any, TypeVar

import pytest

from dedup.tokens import tokenize
from filters.catalogue import STAGES
from pipelines.benchmarks import BENCHMARKS
from pipelines.curate import curate
from pipelines.errors import CheckFailed
from pipelines.ledger import code
from pipelines.ledger.code import code_of, definitions
from pipelines.ledger.engine import ONE_CPU, LocalEngine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, StepContext
from pipelines.ledger.step import Resources, Step
from pipelines.recipe import load
from pipelines.sources import SOURCES
from pipelines.steps.ingest import ingest_files

Item = TypeVar("Item")
Result = TypeVar("Result")

ROOT = Path(code.__file__).resolve().parents[2]

# Every stage, several formats and adapters, and every kind of score that trains on the rows themselves.
RECIPE = f"""
name: all
sources:
  - {{name: web, adapter: generated_web, rows: 300}}
  - {{name: talk, adapter: generated_conversations, rows: 200}}
  - {{name: gsm8k, adapter: gsm8k, path: gsm8k.jsonl}}
  - {{name: mine, path: mine.csv, columns: {{instruction: q, response: a}}, condition: direct}}
scores:
  - length
  - arithmetic
  - python
  - {{kind: perplexity, rows: [web, talk]}}
  - {{kind: classifier, name: web_like, positives: [web], negatives: [talk]}}
  - {{kind: subject, labels: {{web: [web], talk: [talk]}}}}
stages: {[{"kind": kind} for kind in STAGES.own if kind != "gopher_quality"] + [{"kind": "score", "name": "length", "top": 0.9}]}
exact_duplicates: {{}}
near_duplicates: {{instruction: 0.8, response: 0.8}}
contamination: {{benchmarks: [{{name: generated, rows: 40}}, {{name: mine, adapter: items, path: items.jsonl}}]}}
tokenizer: {{vocab_size: 512}}
sampling: {{epochs: 2, context: 129, validation: 0.2}}
"""  # noqa: E501


class Watched(LocalEngine):
    """Runs items in this process and keeps each project function that runs within the work on one."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: set[tuple[str, str, int]] = set()

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        """Yield `work(item)`."""
        assert isinstance(work, functools.partial)
        item_work, *rest = work.args

        @functools.wraps(getattr(item_work, "func", item_work))
        def watched(*args: Any) -> Any:
            sys.setprofile(self._called)
            try:
                return item_work(*args)
            finally:
                sys.setprofile(None)

        yield from super().map(functools.partial(work.func, watched, *rest), items, resources)

    def _called(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(ROOT)):
            within: FrameType | None = frame
            while within is not None and within.f_code.co_name != "watched":
                if within.f_code.co_name == "<module>":  # a module is imported
                    return
                within = within.f_back
            self.ran.add((frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_code.co_firstlineno))


class Checked(Run):
    """A run that compares, for each step, what ran with what its key holds."""

    engine: Watched

    def __init__(self, root: str) -> None:
        super().__init__(root, Watched())
        self.missing: dict[str, set[str]] = {}
        self.functions = 0

    def do(
        self,
        step: Step,
        work: Callable[[StepContext], Sequence[Part]],
        parent: Manifest | None = None,
        uses: Iterable[object] = (),
    ) -> Manifest:
        """As of Run."""
        self.engine.ran.clear()
        made = super().do(step, work, parent, uses)
        known = definitions(work, uses)
        ran = {f"{module_of(file)}:{top_name(file, line)}": name for file, name, line in self.engine.ran}
        self.functions += len(ran)
        if missing := ran.keys() - known:
            self.missing[step.name] = missing
        assert "none" not in made.code.values(), "each library has a version"
        return made


def module_of(file: str) -> str:
    return ".".join(Path(file).relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def spans(file: str) -> list[tuple[int, int, str]]:
    """First and last line of each statement at the top of a file, and the name that it binds."""
    found = []
    for node in ast.parse(Path(file).read_text()).body:
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
        bound = next(iter(code._bound(node)), "")
        found.append((first, node.end_lineno or first, bound))
    return found


def top_name(file: str, line: int) -> str:
    return next(name for first, last, name in spans(file) if first <= line <= last)


def write_inputs(folder: Path) -> None:
    gsm8k = [{"question": f"What is {n} + 1?", "answer": f"It is {n + 1}.\n#### {n + 1}"} for n in range(40)]
    (folder / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in gsm8k))
    items = [{"question": f"How much is {n} times {n}, in words?", "answer": "many"} for n in range(20)]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    rows = "".join(f'"Name the number {n}, please.","It is called ""{n}"", as you know."\n' for n in range(40))
    (folder / "mine.csv").write_text("q,a\n" + rows)


LOOKUP = "filters.registry:Registry"
"""Work finds a function by a name in its item. The function itself is given to `Run.do` as `uses`."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Checked]]:
    folder = tmp_path_factory.mktemp("all")
    write_inputs(folder)
    (folder / "recipe.yaml").write_text(RECIPE)
    run = Checked(str(folder / "root"))
    curate(run, load(str(folder / "recipe.yaml")))
    yield folder, run


@pytest.mark.fault("a function of a step's work is left out of the step's key", "none is")
def test_every_function_that_runs_within_the_work_of_a_step_is_part_of_its_key(made: tuple[Path, Checked]) -> None:
    _, run = made
    assert {step: names - {LOOKUP} for step, names in run.missing.items() if names != {LOOKUP}} == {}
    assert run.functions > 300, "the test sees what runs"


READERS = {
    f"{kind} {name}": thing.read or thing.generate
    for kind, things in (("source", SOURCES.own), ("benchmark", BENCHMARKS.own))
    for name, thing in things.items()
}


@pytest.mark.parametrize("name", READERS)
def test_the_reader_of_each_source_and_benchmark_is_part_of_the_key_of_a_step_that_uses_it(name: str) -> None:
    functions = [held for held in code._held([READERS[name]]) if isinstance(held, FunctionType)]
    reached = definitions(ingest_files, [READERS[name]])
    assert functions
    for function in functions:
        file = function.__code__.co_filename
        assert f"{module_of(file)}:{top_name(file, function.__code__.co_firstlineno)}" in reached


# Prints for each step whether its code is that of the manifest of the root given.
COMPARE = """
import sys
from pipelines.benchmarks import BENCHMARKS
from pipelines.curate import curate
from pipelines.errors import CheckFailed
from pipelines.ledger import manifest as manifests, storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run, StepResult, with_code
from pipelines.recipe import load
from pipelines.sources import SOURCES
from pipelines.steps.ingest import ingest_files

root, recipe = sys.argv[1:]
made = {m.step: m for m in (manifests.load(root, folder) for folder in storage.folders(f"{root}/steps"))}

class Compared(Run):
    def do(self, step, work, parent=None, uses=()):
        if with_code(step, work, uses).code != made[step.name].code:
            print(step.name)
        return made[step.name]

curate(Compared(root, LocalEngine()), load(recipe))
"""

EDITS = [
    ("filters/loop.py", "judge", "refine"),
    ("filters/gopher_quality.py", "judge", ""),  # the recipe does not have it
    ("filters/scores/arithmetic.py", "measure", "score-arithmetic"),
    ("dedup/minhash.py", "band_keys", "near-duplicates"),
    ("pipelines/sources/gsm8k.py", "_read", "ingest"),
    ("pipelines/sources/scibench.py", "_read", ""),
    ("pipelines/sources/generated/web.py", "row", "ingest"),
    ("pipelines/benchmarks/items.py", "_item", "benchmark-index"),
    ("pipelines/steps/pack.py", "_plan", "pack"),
    ("pipelines/steps/pack.py", "_estimate", ""),
    ("pipelines/recipe.py", "load", ""),
    ("pipelines/ledger/lease.py", "hold", ""),
    ("pipelines/ledger/engine.py", "map", ""),
]
"""A file, a function of it that is changed, and the steps that run it."""


def edited(text: str, function: str) -> str:
    """The text of a module with one more statement in a function."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef) and node.name == function]
    first = nodes[-1].body[1 if code._is_text(nodes[-1].body[0]) else 0]
    lines = text.splitlines(keepends=True)
    lines.insert(first.lineno - 1, " " * first.col_offset + "assert True\n")
    return "".join(lines)


def with_other_comments(text: str) -> str:
    """The text of a module with other docstrings, and comments and blank lines between its definitions."""
    return re.sub(r'(?m)^(    )?"""(?=\w)', r'\1"""Said otherwise. ', text).replace(
        "\n\n\ndef ", "\n\n# More.\n\n\n\ndef "
    )


@pytest.fixture(scope="module")
def copy(made: tuple[Path, Checked]) -> Path:
    """A copy of the packages whose sources are read, and kept, once."""
    folder, _ = made
    for package in ("dedup", "filters", "pipelines"):
        shutil.copytree(ROOT / package, folder / "copy" / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert changed(folder / "copy", {}) == []
    return folder / "copy"


def changed(copy: Path, texts: dict[str, str]) -> list[str]:
    """The steps whose code is another one with these texts in files of the copy."""
    before = {name: (copy / name).read_text() for name in texts}
    for name, text in texts.items():
        (copy / name).write_text(text)
    command = [sys.executable, "-c", COMPARE, str(copy.parent / "root"), str(copy.parent / "recipe.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(copy), "XDG_CACHE_HOME": str(copy.parent / "cache")}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    for name, text in before.items():
        (copy / name).write_text(text)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.fault("the code of a filter, an adapter or a step is changed", "the steps that run it are made again")
@pytest.mark.parametrize(("file", "function", "steps"), EDITS)
def test_a_change_of_a_function_changes_the_steps_that_run_it_and_no_others(
    copy: Path, file: str, function: str, steps: str
) -> None:
    assert changed(copy, {file: edited((copy / file).read_text(), function)}) == steps.split()


def test_comments_docstrings_and_blank_lines_change_no_step(copy: Path) -> None:
    files = [str(path.relative_to(copy)) for path in copy.rglob("*.py")]
    texts = {name: with_other_comments((copy / name).read_text()) for name in files}
    assert sum(text != (copy / name).read_text() for name, text in texts.items()) > 100
    assert changed(copy, texts) == []


def test_data_that_a_reader_holds_counts() -> None:
    readers = [functools.partial(sorted, key=value) for value in ({"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": 1, "b": 2})]
    one, other, same = (code_of(ingest_files, [reader]) for reader in readers)
    assert one == same != other


def test_a_source_that_changed_after_the_process_started_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "_STARTED", 0)
    with pytest.raises(CheckFailed, match=r"\.py: changed while this process runs"):
        code._Sources().read("filters.loop")


def test_a_module_that_a_plugin_imports_within_a_function_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_words.py").write_text("WORDS = ['one']\n")
    (tmp_path / "late_plugin.py").write_text("def judge():\n    import late_words\n    return late_words.WORDS\n")
    monkeypatch.syspath_prepend(tmp_path)
    judge = importlib.import_module("late_plugin").judge
    before = code_of(judge)
    assert set(before) == {"late_plugin", "late_words"}
    (tmp_path / "late_words.py").write_text("WORDS = ['two', 'three']\n")
    script = "import late_plugin as p; from pipelines.ledger.code import code_of as c; print(c(p.judge)['late_words'])"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", script]
    after = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert after != before["late_words"]


def test_the_version_of_unicode_counts_where_its_tables_decide() -> None:
    assert "unicodedata" in code_of(tokenize) and "unicodedata" not in code_of(STAGES["length"].judge)
