"""Files of finished steps that are lost, cut, changed: made again or named, never used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.curate import curate, is_finished
from pipelines.errors import CheckFailed
from pipelines.ledger import manifest as manifests
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Progress, Run
from pipelines.recipe import Recipe, load
from pipelines.steps import encoding
from pipelines.steps.benchmark_index import open_code_index, open_index

RECIPE = """
name: damaged
sources:
  - {name: web, adapter: generated_web, rows: 200}
  - {name: talk, adapter: generated_conversations, rows: 200}
scores: [length]
stages: [{kind: thinking}, {kind: strip_thinking}, {kind: score, name: length, top: 0.9}]
exact_duplicates: {}
near_duplicates: {instruction: 0.8, response: 0.8}
contamination: {benchmarks: [{name: generated, rows: 40}]}
tokenizer: {vocab_size: 512}
sampling: {epochs: 2, context: 129, validation: 0.2}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    folder = tmp_path_factory.mktemp("damage")
    (folder / "recipe.yaml").write_text(RECIPE)
    recipe = load(str(folder / "recipe.yaml"))
    curate(Run(str(folder / "root"), LocalEngine()), recipe)
    return folder / "root", recipe


@pytest.fixture
def root(built: tuple[Path, Recipe], tmp_path: Path) -> Path:
    shutil.copytree(built[0], tmp_path / "root")
    return tmp_path / "root"


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def steps(root: Path) -> list[Manifest]:
    found = [manifests.load(str(root), path.name) for path in sorted((root / "steps").iterdir())]
    return [manifest for manifest in found if manifest is not None]


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    match how:
        case "removed":
            path.unlink()
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "longer":
            path.write_bytes(data + b"\0")
        case "emptied":
            path.write_bytes(b"")


@pytest.mark.fault("a file of a finished step is lost or cut", "the step is made again, with the same bytes")
@pytest.mark.parametrize("how", ["removed", "cut", "longer", "emptied"])
def test_a_step_that_lacks_a_file_is_made_again_with_the_same_bytes(
    built: tuple[Path, Recipe], root: Path, how: str
) -> None:
    before = files(root)
    made = steps(root)
    assert len(made) > 10
    for number, step in enumerate(made):
        step_files = step.all_files
        damage(Path(step_files[number % len(step_files)].path), how)
    assert not is_finished(str(root), built[1])
    told: list[Progress] = []
    run = Run(str(root), LocalEngine(), watch=told.append)
    curate(run, built[1])
    assert files(root) == before and not any(result.reused for result in run.results)
    assert len([progress for progress in told if progress.phase == "damaged"]) == len(made)
    again = Run(str(root), LocalEngine())
    curate(again, built[1])
    assert all(result.reused for result in again.results)


@pytest.mark.fault("a manifest is changed and still is one", "the step is made again, with the same bytes")
@pytest.mark.parametrize("what", ["a parameter", "rows", "less than no rows", "a reason"])
def test_a_step_whose_manifest_does_not_add_up_is_made_again_with_the_same_bytes(
    built: tuple[Path, Recipe], root: Path, what: str
) -> None:
    before = files(root)
    (step,) = [made for made in steps(root) if made.step == "exact-duplicates"]
    path = Path(manifests.path_of(str(root), step.folder))
    value = json.loads(path.read_text())
    part = value["parts"][0]
    match what:
        case "a parameter":
            value["parameters"] |= {"priority": "another"}
        case "rows":
            part["rows_in"] += 1
        case "less than no rows":
            part["rows_in"] = part["files"]["records"][0]["rows"] = -1
        case "a reason":
            part["counts"]["exact_duplicates/exact_duplicate"] = 999
    path.write_text(json.dumps(value))
    told: list[Progress] = []
    curate(Run(str(root), LocalEngine(), watch=told.append), built[1])
    assert files(root) == before
    (damaged,) = [progress for progress in told if progress.phase == "damaged"]
    assert step.folder in damaged.holder and damaged.holder.endswith("; the step is made again")


def parents(root: Path) -> Iterator[tuple[Manifest, str]]:
    """Each step that another one reads, with the name of each product."""
    made = steps(root)
    for step in made:
        if any(step.key in other.parents for other in made):
            yield from ((step, product) for product in {name for part in step.parts for name in part.files})


@pytest.mark.fault("a bit of a file flips after it was written", "an error that names the file, before it is used")
def test_a_flipped_bit_in_a_file_that_a_step_reads_is_an_error_that_names_it(
    built: tuple[Path, Recipe], root: Path
) -> None:
    before, caught = files(root), set()
    for step, product in parents(root):
        for file in step.files(product)[:1]:
            for child in steps(root):
                if step.key in child.parents:
                    manifests.forget(str(root), child.folder)
            data = bytearray(before[str(Path(file.path).relative_to(root))])
            data[len(data) // 3] ^= 4
            for kept in (open_index, open_code_index, encoding.load):  # in this process, from the first build
                kept.cache_clear()
            Path(file.path).write_bytes(data)
            try:
                curate(Run(str(root), LocalEngine()), built[1])
            except CheckFailed as error:
                assert file.path in str(error) and "changed since it was written" in str(error)
                caught.add((step.step, product))
            Path(file.path).write_bytes(before[str(Path(file.path).relative_to(root))])
            curate(Run(str(root), LocalEngine()), built[1])
            assert files(root) == before, f"{step.step}/{product}: used though it was changed"
    assert caught >= {
        ("ingest", "records"), ("refine", "records"), ("score-length", "scores"), ("select", "records"),
        ("exact-duplicates", "records"), ("near-duplicates", "records"), ("benchmark-index", "index"),
        ("benchmark-index", "code_index"), ("contamination", "records"), ("tokenizer", "tokenizer"),
        ("tokens", "tokens"),
    }  # fmt: skip
