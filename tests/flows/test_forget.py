"""`winnow forget` lists all that holds a row, builds without it, proves that nothing else changed; `gc` removes it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flows.build import build
from flows.forget import forget
from flows.gc import gc
from flows.verify import verify
from pipelines.audit.forget import Selection
from pipelines.errors import CheckFailed, RunError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.lease import hold
from pipelines.ledger.run import Run
from pipelines.ledger.runs import Attempt, open_run, recorded
from tests.steps import plain_step
from tests.trainings import train_on

RECIPE = """
name: small
sources:
  - {name: mine, path: FOLDER/mine.jsonl, columns: {instruction: q, response: a}, condition: direct}
  - {name: other, path: FOLDER/other.jsonl, columns: {instruction: q, response: a}, condition: direct}
stages: [{kind: urls}]
contamination: {benchmarks: [{name: generated, rows: 20}]}
tokenizer: {vocab_size: 512}
sampling: {epochs: 2, context: 129, validation: 0.1}
"""

SECRET = "The secret of the house in Elm Street 12 is below the third stair."


def rows(name: str) -> list[dict[str, str]]:
    return [
        {
            "q": f"What is {n} plus {n * n} in the {name} count?",
            "a": f"It is {n + n * n}, since {n} and {n * n} are added.",
        }
        for n in range(60)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a root in which a run and a training are, and the files that were read."""
    folder = tmp_path_factory.mktemp("forget")
    mine, other = rows("first"), rows("second")
    mine[3] = {"q": "Where is the key of the old house, and who may know it today?", "a": SECRET}
    mine[7] = dict(mine[3])  # an exact duplicate under another id
    mine[9] = {"q": mine[3]["q"], "a": SECRET.upper()}  # a near duplicate: the same words
    mine[11]["a"] = "https://a.example https://b.example"
    for name, table in (("mine", mine), ("other", other)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    (folder / "root").mkdir()
    train_on(folder / "root", RECIPE.replace("FOLDER", str(folder)))
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(made / "root", tmp_path / "root"))


def bytes_below(root: str, text: str) -> Iterator[Path]:
    """The files below a root in which a text stands, also in Parquet."""
    for path in Path(root).rglob("*"):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += json.dumps(storage.read_parquet(str(path)).to_pylist(), default=str).encode()
        if text.encode() in content:
            yield path


ROW = "mine/mine/3"


def test_a_row_is_listed_with_every_file_training_and_checkpoint_and_nothing_is_changed(root: str) -> None:
    before = storage.sizes(root)
    answer = forget(Selection(ids=(ROW,)), root=root)
    (run,) = answer.runs
    assert run.rows == ("mine/mine/3", "mine/mine/7")  # the same text under another id
    products = {(place.step.rpartition("-")[0], place.product) for place in run.places}
    assert {
        ("ingest", "records"),
        ("refine", "records"),
        ("exact-duplicates", "dropped"),
        ("contamination", "records"),
    } <= products
    assert ("tokens", "tokens") in products and any(product in ("packs", "validation_packs") for _, product in products)
    assert any("tokenizer" in name for name in run.made_from)
    assert storage.sizes(root) == before and answer.receipt is None


def test_a_row_is_forgotten_proved_and_gone_after_gc(root: str, made: Path) -> None:
    old = open_run(root, "latest")
    answer = forget(Selection(ids=(ROW,)), root=root, apply=True, workers=1)
    new = open_run(root, "latest")
    (proof,) = answer.proofs
    assert (proof.old, proof.new, proof.forgotten, proof.rows) == (old.id, new.id, 2, 118)
    assert [change.row for change in proof.kept_now] == ["mine/mine/9"] and not proof.dropped_now
    assert new.steps[0].reasons["forgotten/forgotten"] == 2
    assert list(bytes_below(root, SECRET))  # only gc removes
    listed = gc(root, dry_run=True)
    assert list(bytes_below(root, SECRET)) and {one.folder for one in listed.garbage} >= {f"runs/{old.id}"}
    gc(root, dry_run=False)
    assert list(bytes_below(root, SECRET)) == []
    assert not gc(root, dry_run=True).garbage
    verify("latest", root, everything=True)
    assert build(str(Path(root, "recipe.yaml")), root, "local", 1).run == new.id  # ingested again, it is dropped again
    receipt = json.loads(Path(str(answer.receipt)).read_text())
    assert receipt["replaced"][0]["run"] == old.id and receipt["removed"][0]["folders"]
    assert SECRET not in json.dumps(receipt) and "Elm" not in json.dumps(receipt)


def test_a_source_is_forgotten_and_stays_out_under_another_name(root: str, made: Path) -> None:
    answer = forget(Selection(sources=("other",)), root=root, apply=True, workers=1)
    assert [Path(use.training).name for use in answer.trainings] == ["one"] and not answer.unknown_trainings
    assert answer.proofs[0].forgotten == 60
    gc(root, dry_run=False)
    assert not [path for path in bytes_below(root, "in the second count") if "training" not in path.parts]
    renamed = RECIPE.replace("FOLDER", str(made)).replace("name: other", "name: renamed")
    (made / "renamed.yaml").write_text(renamed)
    third = forget(Selection(ids=("mine/mine/1",)), root=root)
    assert not third.trainings and [Path(name).name for name in third.unknown_trainings] == ["one"]
    again = open_run(root, build(str(made / "renamed.yaml"), root, "local", 1).run)
    assert again.steps[0].reasons["forgotten/forgotten"] == 60


def test_a_text_is_forgotten_wherever_it_is(root: str) -> None:
    answer = forget(Selection(texts=("Elm Street",)), root=root)
    assert answer.runs[0].rows == ("mine/mine/3", "mine/mine/7")
    with pytest.raises(RunError, match="no row of a run"):
        forget(Selection(texts=("Oak Street",)), root=root)


def test_mistakes_are_told(root: str) -> None:
    with pytest.raises(RunError, match=r"mine/mine/99: no such row .* the nearest is mine/mine/59"):
        forget(Selection(ids=("mine/mine/99",)), root=root)
    with pytest.raises(RunError, match="did you mean 'other'"):
        forget(Selection(sources=("othr",)), root=root)
    with pytest.raises(WinnowError, match="no runs"):
        forget(Selection(ids=(ROW,)), root=f"{root}/nowhere")
    with pytest.raises(RunError, match="no runs and no steps"):
        gc(f"{root}/nowhere")


@pytest.mark.fault("an input changed before winnow forget", "no proof, nothing given up")
def test_a_changed_input_is_no_proof_and_nothing_is_given_up(root: str, made: Path) -> None:
    path = made / "mine.jsonl"
    before = path.read_text()
    try:
        path.write_text(before.replace("It is 2, since 1 and 1", "It is 3, since 1 and 1"))
        with pytest.raises(CheckFailed, match="did an input file change"):
            forget(Selection(ids=(ROW,)), root=root, apply=True, workers=1)
        assert not [one for one in gc(root, dry_run=True).garbage if "forget" in one.why]
    finally:
        path.write_text(before)
    old = next(run for run in storage.folders(f"{root}/runs"))
    verify(old, root)


def test_gc_keeps_what_a_build_or_a_training_needs(root: str, made: Path) -> None:
    run = open_run(root, "latest")
    forget(Selection(ids=(ROW,)), root=root, apply=True, workers=1)
    attempt = Attempt(root, "going-on", "", {}, ["ingest"])
    with pytest.raises(CheckFailed, match="is going on, so nothing is removed"):
        gc(root, dry_run=False)
    attempt.succeed()
    packs = run.product("packs")
    assert packs is not None
    with hold(f"{root}/training/one/.lease", "a training"):
        answer = gc(root, dry_run=False)
    assert storage.exists(packs.shards[0].path if packs.shards else packs.files("packs")[0].path)
    assert "a training that is going on reads it" in answer.kept.values()
    gc(root, dry_run=False)
    assert not storage.exists(packs.files("packs")[0].path)


def test_gc_keeps_indexes_of_runs_and_not_former_forms_of_their_steps(root: str) -> None:
    run = open_run(root, "latest")
    forget(Selection(ids=(ROW,)), run.id, root)
    with pytest.raises(RunError):
        forget(Selection(ids=("mine/mine/99",)), run.id, root)  # makes an index to name the nearest
    former = plain_step("near-duplicates", {"former": 1}, (run.steps[1].key,))
    Run(root, LocalEngine()).do(former, lambda context: [])
    removed = gc(root, dry_run=False, min_age_hours=0)
    assert [one.folder for one in removed.garbage] == [f"steps/{former.folder}"]
    assert list(Path(root).glob("steps/row-index-*"))


def test_a_young_step_of_no_run_is_kept_for_a_build_that_was_stopped(root: str) -> None:
    run = open_run(root, "latest")
    shutil.rmtree(run.folder)
    answer = gc(root, dry_run=True)
    trained = {f"steps/{step.folder}" for step in run.steps if step.step in ("pack", "tokenizer")}
    assert not answer.garbage and len(answer.kept) == len(run.steps) - len(trained)
    removed = gc(root, dry_run=False, min_age_hours=0)
    assert {one.folder for one in removed.garbage} == {f"steps/{step.folder}" for step in run.steps} - trained
    assert all(storage.exists(f"{root}/{folder}/manifest.json") for folder in trained)  # a training can carry on


KILLED = """
import sys
from flows.forget import forget
from flows.gc import gc
from pipelines.audit.forget import Selection
root, what = sys.argv[1:]
print("begun", flush=True)
if what == "forget":
    forget(Selection(ids=("mine/mine/3",)), root=root, apply=True, workers=1)
else:
    gc(root, dry_run=False)
print("done", flush=True)
"""


@pytest.mark.parametrize("what", ["forget", "gc"])
@pytest.mark.fault("kill -9 of winnow forget and gc at any moment", "the same command mends the root")
def test_a_kill_at_any_moment_leaves_a_root_that_the_same_command_mends(root: str, made: Path, what: str) -> None:
    old = open_run(root, "latest").id
    if what == "gc":
        forget(Selection(ids=(ROW,)), root=root, apply=True, workers=1)
    kills = 0
    for number in range(4):
        process = subprocess.Popen([sys.executable, "-c", KILLED, root, what], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        folder = Path(root, "forgotten" if what == "forget" else f"runs/{old}")
        deadline = time.monotonic() + 60
        while what == "forget" and not folder.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.6 * number if what == "forget" else 0.02 * number)
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if ended:
            break
        kills += 1
        # The former run is whole until `gc` removes it, and the new one whatever `gc` does.
        for run in [old] if what == "forget" else storage.folders(f"{root}/runs"):
            if storage.exists(f"{root}/runs/{run}/run.json"):
                verify(run, root)
    assert kills >= 2
    forget(Selection(ids=(ROW,)), root=root, apply=True, workers=1)
    gc(root, dry_run=False, min_age_hours=0)
    assert list(bytes_below(root, SECRET)) == []
    verify("latest", root, everything=True)


def test_rows_that_are_nearly_the_same_are_named_and_stay(root: str) -> None:
    (run,) = forget(Selection(ids=(ROW,)), root=root).runs
    assert [(one.row, one.of) for one in run.alike] == [("mine/mine/9", "mine/mine/3")]


def test_white_space_does_not_hide_a_text_that_is_forgotten(root: str) -> None:
    (run,) = forget(Selection(texts=("house  in\nElm Street",)), root=root).runs
    assert set(run.rows) == {"mine/mine/3", "mine/mine/7"}


def test_a_run_whose_rows_are_all_forgotten_is_replaced_by_none_and_the_other_runs_are_built(
    root: str, made: Path
) -> None:
    """A licence ends: the source is all that one run has, and a part of another."""
    alone = Path(root, "recipe.yaml").read_text()
    values = yaml.safe_load(alone)
    values |= {"name": "alone", "sources": [one for one in values["sources"] if one["name"] == "mine"]}
    (Path(root) / "alone.yaml").write_text(yaml.safe_dump(values))
    only = build(str(Path(root, "alone.yaml")), root, "local", 1).run
    answer = forget(Selection(sources=("mine",)), root=root, apply=True, workers=1)
    receipt = json.loads(Path(str(answer.receipt)).read_text())
    by = {run["run"]: run["by"] for run in receipt["replaced"]}
    assert by[only] is None and sorted(by.values(), key=str)[-1] is not None and len(by) == 2
    gc(root, dry_run=False)
    assert list(bytes_below(root, SECRET)) == []
    assert [run for run, _ in recorded(root)] == [name for name in by.values() if name]
