"""`winnow verify` finds one flipped byte in a file of any kind below a root, and what was forged with new digests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flows.verify import verify
from pipelines.benchmarks import BENCHMARKS
from pipelines.errors import CheckFailed, RunError, WinnowError
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun, open_run
from tests.every_kind import every_kind, flipped, make_root


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kinds") / "root"
    make_root(root)
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "root"))


@pytest.mark.fault("one bit flipped in a file of every kind", "verify names the file")
def test_one_flipped_byte_in_a_file_of_every_kind_is_found_and_the_file_named(root: Path) -> None:
    answer = verify("latest", str(root), everything=True)
    assert (len(answer.runs), answer.checkpoints, answer.evaluations) == (1, 2, 1)
    checked = 0
    for kind, path in every_kind(root):
        before = path.read_bytes()
        path.write_bytes(flipped(path, len(before) * 2 // 3))
        with pytest.raises((CheckFailed, WinnowError)) as raised:
            verify("latest", str(root), everything=True)
            pytest.fail(f"{kind}: not found")
        assert path.name in str(raised.value), kind
        path.write_bytes(before)
        checked += 1
    assert checked > 40
    verify("latest", str(root), everything=True)


def test_a_run_is_verified_with_what_was_made_from_it(root: Path) -> None:
    answer = verify("latest", str(root))
    assert (answer.trainings, answer.checkpoints, answer.evaluations) == (1, 2, 1)
    weights = next(root.glob("training/one/step-*/model.safetensors"))
    forest = next(root.glob("steps/similar-*/shards/part-00000.arrow"))
    for path in (weights, forest):
        path.write_bytes(flipped(path, 100))
    with pytest.raises(CheckFailed) as raised:
        verify("latest", str(root))
    assert str(weights) in str(raised.value) and str(forest) in str(raised.value)  # all problems, not the first
    assert "use an earlier checkpoint" in str(raised.value)


def accept(run: RecordedRun, step: str, change: dict[str, object]) -> None:
    """Write digests of a step's files, and then of its manifest, anew: what one does who hides a change.

    change: file -> the table that it now has.
    """
    manifest = run.step(step)
    assert manifest is not None
    path = Path(manifests.path_of(run.root, manifest.folder))
    value = json.loads(path.read_text())
    for part in value["parts"]:
        for files in part["files"].values():
            for file in files:
                full = Path(run.root, file["path"])
                if str(full) in change:
                    written = storage.write_parquet(str(full), change[str(full)])
                    file |= {"bytes": written.bytes, "digest": written.digest}
    path.write_text(json.dumps(value, indent=2, sort_keys=True))
    checksums = Path(run.folder, "checksums.json")
    digests = json.loads(checksums.read_text()) | {f"steps/{manifest.folder}/manifest.json": storage.digest(str(path))}
    checksums.write_text(json.dumps(digests))


@pytest.mark.parametrize("fault", ["another id", "order", "column", "lost draw"])
def test_changes_that_are_hidden_behind_new_digests_are_found(root: Path, fault: str) -> None:
    run = open_run(str(root), "latest")
    step = "pack" if fault == "lost draw" else "contamination"
    manifest = run.step(step)
    assert manifest is not None
    file = (manifest.files("row_fates") if step == "pack" else manifest.shards)[0].path
    table = storage.read_parquet(file)
    if fault == "another id":
        ids = table["id"].to_pylist()
        table = table.set_column(0, table.schema.field("id"), [[*ids[:-1], "generated_web/generated/9999"]])
    elif fault == "order":
        table = table.take([1, 0, *range(2, len(table))])
    elif fault == "column":
        table = table.drop_columns(["digest"])
    else:
        draws = table["draws"].to_numpy().copy()
        draws[draws.argmax()] -= 1
        table = table.set_column(table.column_names.index("draws"), "draws", [draws])
    accept(run, step, {file: table})
    with pytest.raises(
        CheckFailed,
        match={
            "another id": "not among the rows",
            "order": "order",
            "column": "no column digest",
            "lost draw": "row_fates",
        }[fault],
    ):
        verify("latest", str(root))


def test_deep_finds_a_duplicate_a_leak_and_a_changed_text_that_were_put_back(root: Path) -> None:
    verified = verify("latest", str(root), deep=True)
    assert [line.partition(":")[0] for line in verified.deep] == [
        "exact duplicates",
        "near duplicates",
        "leaks",
        "made again",
    ]
    run = open_run(str(root), "latest")
    shards = {step.step: step.shards[0].path for step in run.steps if step.kept == "records"}
    generate = BENCHMARKS["generated"].generate
    assert generate is not None
    item = generate(40, 0).to_pylist()[7]
    table = storage.read_parquet(shards["contamination"])
    rows = table.to_pylist()
    rows[1] |= {"instruction": rows[0]["instruction"], "response": rows[0]["response"]}
    rows[2] |= {"instruction": f"Answer this. {item['question']}", "response": item["answer"]}
    accept(run, "contamination", {shards["contamination"]: type(table).from_pylist(rows, table.schema)})
    with pytest.raises(CheckFailed) as raised:
        verify("latest", str(root), deep=True)
    message = str(raised.value)
    assert "1 exact duplicates are left" in message and "1 rows of the corpus hold benchmark items" in message
    assert rows[0]["id"] in message and rows[2]["id"] in message and "made again it has other bytes" in message


@pytest.mark.fault("damaged files of the ledger", "one line names the file")
def test_a_damaged_ledger_is_told_of_in_one_line(root: Path) -> None:
    manifest = next(root.glob("steps/refine-*/manifest.json"))
    before = manifest.read_bytes()
    for content in (b"[]", b"{}", b'{"format": 3, "parts": 3}', b"", before[: len(before) // 2]):
        manifest.write_bytes(content)
        with pytest.raises(CheckFailed, match="damaged since it was written"):
            verify("latest", str(root))
    manifest.write_bytes(before.replace(b'"format": 3', b'"format": 1'))
    with pytest.raises(WinnowError, match="another version of Winnow"):
        verify("latest", str(root))
    manifest.write_bytes(before)
    (run_json,) = root.glob("runs/*/run.json")
    run_json.write_text("{}")
    with pytest.raises(CheckFailed, match=r"run\.json: damaged since it was written"):
        verify("latest", str(root))


@pytest.mark.parametrize("place", ["none", "empty", "file"])
def test_nothing_to_verify_is_a_mistake(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="nothing here to verify"):
        verify(root=str(tmp_path / place), everything=True)
