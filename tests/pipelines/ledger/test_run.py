"""A step is reused when nothing changed, resumed where it stopped, and never loses a row."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from filters.stage import DROP_FIELDS, Outcome
from pipelines.errors import CheckFailed
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Progress, Run, StepResult, Target, check_ids, commit
from pipelines.ledger.step import Step, StepType
from pipelines.ledger.storage import FileRef, TableRef
from tests.steps import plain_step

ROWS = 10


def numbers(item: int, target: Target) -> Part:
    """Keep the even numbers of a range, drop the odd ones."""
    numbers = list(range(item * ROWS, (item + 1) * ROWS))
    table = pa.table({"id": [str(number) for number in numbers], "number": numbers})
    even = [number.as_py() % 2 == 0 for number in table["number"]]
    dropped = table.filter(pa.array([not keep for keep in even]))
    for field, value in zip(DROP_FIELDS, ("parity", "odd", "{}"), strict=True):
        dropped = dropped.append_column(field, pa.array([value] * dropped.num_rows))
    return commit(Outcome(table.filter(pa.array(even)), dropped), table, target)


def counted(folder: str, item: int, target: Target) -> Part:
    """`numbers`, leaving a mark for each time it ran."""
    Path(folder, f"{item}-{os.getpid()}-{os.urandom(4).hex()}").touch()
    return numbers(item, target)


def killed_at(last: int, item: int, target: Target) -> Part:
    """`numbers`, until an item at which the process is gone after its computation and before its commit."""
    part = numbers(item, target)
    if item == last:
        os._exit(9)
    return part


def failing_at(last: int, item: int, target: Target) -> Part:
    """`numbers`, until an item that fails."""
    if item == last:
        raise ValueError(f"item {item}")
    return numbers(item, target)


def lossy(item: int, target: Target) -> Part:
    """Says that it took one row more than it wrote."""
    part = numbers(item, target)
    return dataclasses.replace(part, rows_in=ROWS + 1)


def unexplained(item: int, target: Target) -> Part:
    """Drops rows without a reason."""
    return dataclasses.replace(numbers(item, target), counts={})


STEP = plain_step("numbers", {"a": 1})


def do(root: Path, kernel: object = numbers, step: Step = STEP, workers: int = 1, items: int = 6) -> StepResult:
    with LocalEngine(workers) as engine:
        run = Run(str(root), engine)
        run.do(step, lambda context: context.map(kernel, range(items)))  # type: ignore[arg-type]
    return run.results[0]


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_finished_step_is_reused_and_its_files_untouched(tmp_path: Path) -> None:
    first = do(tmp_path)
    before = files(tmp_path)
    second = do(tmp_path, kernel=lossy)  # would fail if it ran
    assert not first.reused and second.reused
    assert second.manifest == first.manifest and files(tmp_path) == before


def test_only_shards_dropped_and_manifest_remain(tmp_path: Path) -> None:
    do(tmp_path)
    folder = tmp_path / "steps" / STEP.folder
    assert sorted(path.name for path in folder.iterdir()) == ["dropped", "manifest.json", "shards"]
    assert sorted(path.name for path in (folder / "shards").iterdir()) == [f"part-{i:05d}.parquet" for i in range(6)]


def test_a_manifest_holds_no_trace_of_where_or_when_it_was_made(tmp_path: Path) -> None:
    do(tmp_path / "here")
    do(tmp_path / "elsewhere" / "deeper")
    assert files(tmp_path / "here") == files(tmp_path / "elsewhere" / "deeper")


def test_a_root_can_be_moved(tmp_path: Path) -> None:
    do(tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    moved = do(tmp_path / "after")
    assert moved.reused and all(
        storage.read_parquet(shard.path).num_rows == shard.rows for shard in moved.manifest.shards
    )


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, workers: int) -> None:
    do(tmp_path / "one")
    do(tmp_path / "many", workers=workers)
    assert files(tmp_path / "one") == files(tmp_path / "many")


def test_parameters_code_and_parents_each_change_the_key() -> None:
    steps = [
        STEP,
        plain_step("numbers", {"a": 1}, code="2"),
        plain_step("numbers", {"a": 2}),
        plain_step("numbers", {"a": 1}, ("p",)),
        plain_step("digits", {"a": 1}),
    ]
    assert len({step.key for step in steps}) == len(steps)
    assert plain_step("numbers", {"b": 1, "a": 2}).key == plain_step("numbers", {"a": 2, "b": 1}).key


def exits(item: int, target: Target) -> Part:
    sys.exit(0)


@pytest.mark.fault("a stage of a plugin calls sys.exit(0)", "the build fails, and says so")
@pytest.mark.parametrize("workers", [1, 2])
def test_work_that_exits_is_a_failure(tmp_path: Path, workers: int) -> None:
    with pytest.raises(CheckFailed, match=r"item 0: a stage called sys\.exit\(0\)"):
        do(tmp_path / "root", kernel=exits, workers=workers)


@pytest.mark.fault("kill -9 of a worker before its commit", "only unfinished items are done again")
def test_a_worker_killed_before_its_commit_costs_only_the_unfinished_items(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    with pytest.raises(CheckFailed, match="the same command carries on"):
        do(tmp_path / "root", kernel=functools.partial(killed_at, 4), workers=2)
    assert not (tmp_path / "root" / "steps" / STEP.folder / "manifest.json").exists()
    receipts = list((tmp_path / "root").rglob("receipts/shards/*.json"))
    again = do(tmp_path / "root", kernel=functools.partial(counted, str(marks)))
    assert len(list(marks.iterdir())) == 6 - len(receipts) < 6
    do(tmp_path / "clean")
    assert files(tmp_path / "root") == files(tmp_path / "clean") and not again.reused


def test_a_shard_cut_short_after_its_receipt_is_made_again(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed):
        do(tmp_path / "root", kernel=functools.partial(killed_at, 5), workers=2)
    shard = tmp_path / "root" / "steps" / STEP.folder / "shards" / "part-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-5])
    do(tmp_path / "root")
    do(tmp_path / "clean")
    assert files(tmp_path / "root") == files(tmp_path / "clean")


@pytest.mark.parametrize(
    ("kernel", "words"), [(lossy, "11 rows in, but 5 kept"), (unexplained, "5 rows dropped, but the reasons count 0")]
)
def test_a_step_that_loses_a_row_or_a_reason_fails_and_leaves_no_manifest(
    tmp_path: Path, kernel: object, words: str
) -> None:
    with pytest.raises(CheckFailed, match=words):
        do(tmp_path, kernel=kernel)
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_step_must_take_every_row_of_its_parent(tmp_path: Path) -> None:
    with LocalEngine() as engine:
        run = Run(str(tmp_path), engine)
        parent = run.do(STEP, lambda context: context.map(numbers, range(3)))
        with pytest.raises(CheckFailed, match="took 20 rows, but step numbers kept 15"):
            run.do(
                plain_step("child", {}, (parent.key,)), lambda context: context.map(numbers, range(2)), parent=parent
            )


def test_progress_tells_every_shard_and_counts_up(tmp_path: Path) -> None:
    seen: list[Progress] = []
    with LocalEngine() as engine:
        Run(str(tmp_path), engine, watch=seen.append).do(STEP, lambda context: context.map(numbers, range(4)))
    assert [(p.done, p.total, p.rows_in, p.rows_kept) for p in seen] == [(i, 4, 10 * i, 5 * i) for i in range(5)]


def test_results_come_in_the_order_of_the_items() -> None:
    with LocalEngine(2) as engine:
        assert list(engine.map(functools.partial(pow, 2), range(20))) == [2**i for i in range(20)]


@pytest.mark.fault("the disk is full while a file is written", "nothing half-written")
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    # In a process of its own: the limit on file sizes would hold for this one's output too.
    script = """
import resource, sys
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    storage.write_bytes(sys.argv[1], b"x" * 100_000)
except OSError as error:
    print(error.strerror)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "shard")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "File too large" and list(tmp_path.iterdir()) == []


def test_writing_below_a_read_only_root_is_an_os_error_that_names_it() -> None:
    with pytest.raises(OSError, match="/proc/winnow"):
        do(Path("/proc/winnow"))


def test_a_manifest_survives_a_round_trip(tmp_path: Path) -> None:
    made = do(tmp_path).manifest
    assert Manifest.model_validate_json(made.model_dump_json()) == made


def test_a_step_of_another_manifest_format_is_made_again_with_the_same_bytes(tmp_path: Path) -> None:
    do(tmp_path)
    before = files(tmp_path)
    manifest = tmp_path / "steps" / STEP.folder / "manifest.json"
    value = json.loads(manifest.read_text())
    del value["format"]
    manifest.write_text(json.dumps(value))
    assert not do(tmp_path).reused
    assert files(tmp_path) == before


def test_receipts_of_another_format_do_not_count(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        do(tmp_path, kernel=functools.partial(failing_at, 3))
    receipts = sorted((tmp_path / "steps" / STEP.folder / "work" / "receipts" / "shards").iterdir())
    assert len(receipts) == 3
    receipts[0].write_text(json.dumps({"rows_in": 10, "shards": [], "dropped": [], "side": []}))
    receipts[1].write_text("{")
    ran = tmp_path / "ran"
    ran.mkdir()
    do(tmp_path, kernel=functools.partial(counted, str(ran)))
    assert sorted(int(path.name.split("-")[0]) for path in ran.iterdir()) == [0, 1, 3, 4, 5]
    shutil.rmtree(ran)
    do(tmp_path / "undisturbed")
    assert files(tmp_path / "undisturbed") == {
        name: data for name, data in files(tmp_path).items() if not name.startswith("undisturbed")
    }


def unshared(item: int, target: Target) -> Part:
    """`numbers`, on a node that writes to a disk of its own: of one item the files, of another their end."""
    part = numbers(item, target)
    path = Path(part.files["records"][0].path)
    if item == 2:
        path.unlink()
    if item == 4:
        path.write_bytes(path.read_bytes()[:-1])
    return part


def test_no_manifest_names_a_file_that_the_driver_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "UNSEEN_SECONDS", 0.0)
    missing = r"step numbers: .*/shards/part-00002\.parquet is not there, .* \(2 of 12 files .*all nodes must reach"
    with pytest.raises(CheckFailed, match=missing):
        do(tmp_path, unshared)
    assert not list(tmp_path.rglob("manifest.json"))
    assert not do(tmp_path).reused
    do(tmp_path / "alone")
    assert files(tmp_path / "steps") == files(tmp_path / "alone" / "steps")


def test_a_manifest_is_written_as_canonical_json_with_relative_paths(tmp_path: Path) -> None:
    name = 'a "b"\n"parts": [] ü\u2028'
    root = str(tmp_path)
    table = TableRef(path=f"{root}/steps/{name}.parquet", bytes=2, digest="ab", rows=3)
    file = FileRef(path=f"{root}/steps/b", bytes=0, digest="")
    kinds = [Part(), Part(files={"z": (table, file), "a": (), name: (file,)}, counts={"y": 1, "b": 2}, rows_in=0)]
    kind = StepType(name="any", products={"a": "", "z": "", name: ""})
    step = kind.step({"text": name, "small": 1e-7, "parts": [], "inner": {"parts": []}})._replace(code={})
    for parts in ([], kinds[:1], kinds):
        made = manifests.save(root, step, parts, None)
        path = Path(manifests.path_of(root, step.folder))
        value = json.loads(path.read_bytes())
        assert path.read_text() == json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        assert [part.get("rows_in") for part in value["parts"]] == [part.rows_in for part in parts]
        assert root not in path.read_text() and manifests.load(root, step.folder) == made
    for part in kinds:
        text = manifests.part_text(part, root)
        assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False)
        assert manifests.load_part(json.loads(text), root) == part == pickle.loads(pickle.dumps(part))


IDS = [f"a/a/{row}" for row in range(1000)]


@pytest.mark.parametrize(
    ("kept", "dropped", "problem"),
    [
        (IDS[1:], [], "row a/a/0: neither kept nor dropped"),
        ([IDS[1], *IDS[1:]], [], "row a/a/0: neither kept nor dropped"),
        ([*IDS[:-1], IDS[5]], [], "row a/a/5: written twice"),
        (IDS[:600], [*IDS[600:], IDS[3]], "row a/a/3: written twice"),
        (IDS[:600], IDS[601:], "row a/a/600: neither kept nor dropped"),
        ([*IDS[:-1], "b/b/0"], [], "row b/b/0: kept or dropped, but not one of the rows taken"),
        (IDS[::-1], [], "row a/a/998: kept in another place"),
        ([*IDS[:5], IDS[6], IDS[5], *IDS[7:]], [], "row a/a/5: kept in another place"),
    ],
)
@pytest.mark.fault("work on an item loses, doubles, invents or moves a row", "an error that names the row")
def test_rows_that_are_not_those_taken_are_an_error(kept: list[str], dropped: list[str], problem: str) -> None:
    with pytest.raises(CheckFailed, match=f"^{problem}"):
        check_ids(*(pa.chunked_array([pa.array(ids, pa.string())]) for ids in (IDS, kept, dropped)))


def test_rows_kept_in_order_and_dropped_in_any_are_those_taken() -> None:
    for kept, dropped in ((IDS, []), ([], IDS), (IDS[::2], IDS[1::2][::-1]), ([], [])):
        ids = IDS if kept or dropped else []
        check_ids(*(pa.chunked_array([pa.array(one, pa.string())]) for one in (ids, kept, dropped)))
