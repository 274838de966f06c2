"""A run that verifies is the run that was recorded: no file of it can be lost or changed unseen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines.audit.report import write_report
from pipelines.audit.verify import verify
from pipelines.errors import CheckFailed, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun, open_run, record_scores
from tests.pipelines.audit.conftest import build


@pytest.fixture
def copy(fates: RecordedRun, tmp_path: Path) -> RecordedRun:
    """A copy of the run that a test may damage."""
    indexes = shutil.ignore_patterns("row-index-*", "pack-index-*", "text-index-*")  # that other tests made
    shutil.copytree(fates.root, tmp_path / "root", ignore=indexes)
    return open_run(str(tmp_path / "root"), fates.id)


def check(run: RecordedRun) -> None:
    """Open the run again and verify it, as the command does."""
    verify(open_run(run.root, run.id))


def test_an_untouched_run_verifies_and_counts_every_file(copy: RecordedRun) -> None:
    record_scores(copy, [{"benchmark": "generated", "checkpoint": "c", "all": 0.5}])
    verified = verify(copy)
    below = [path for path in Path(copy.root, "steps").rglob("*") if path.is_file()]
    kept = ("run.json", "recipe.yaml", "lineage.jsonl", "evaluations.json", "checksums.json")
    assert verified.files == len(below) + len(kept)
    assert verified.rows == copy.records.rows_kept


def test_a_lost_hits_file_and_rewritten_clean_ids_are_found(copy: RecordedRun) -> None:
    step = copy.step("contamination")
    assert step is not None
    clean = Path(step.file("clean_ids").path)
    value = json.loads(clean.read_text())
    value["clean"] += value.pop("contaminated")
    clean.write_text(json.dumps(value | {"contaminated": []}))
    with pytest.raises(CheckFailed, match=clean.name):
        check(copy)


def test_a_file_added_to_the_folder_of_a_run_is_found(copy: RecordedRun) -> None:
    Path(copy.folder, "extra.txt").write_text("not of the run")
    with pytest.raises(CheckFailed, match=r"extra\.txt: no file of the run; remove it"):
        check(copy)


@pytest.mark.parametrize("content", ["{}", "[]", "", '{"format": 2}'])
def test_a_manifest_without_its_content_is_damaged_not_of_another_version(copy: RecordedRun, content: str) -> None:
    Path(copy.root, "steps", copy.steps[1].folder, "manifest.json").write_text(content)
    with pytest.raises(CheckFailed, match="damaged"):
        check(copy)


def test_a_lost_file_of_any_product_is_found(copy: RecordedRun) -> None:
    for step in copy.steps:
        for product in {product for part in step.parts for product in part.files}:
            path = Path(step.files(product)[0].path)
            aside = path.with_suffix(".aside")
            path.rename(aside)
            with pytest.raises(CheckFailed, match=path.name):
                check(copy)
            aside.rename(path)
    check(copy)


def every_kind(run: RecordedRun) -> dict[str, Path]:
    """One file of every kind that a run consists of: each product of each step, manifests, and the run's own files."""
    files = {}
    for step in run.steps:
        files[f"{step.step}/manifest"] = Path(run.root, "steps", step.folder, "manifest.json")
        for product in {product for part in step.parts for product in part.files}:
            files[f"{step.step}/{product}"] = Path(step.files(product)[0].path)
    for name in ("run.json", "recipe.yaml", "lineage.jsonl", "evaluations.json", "checksums.json"):
        files[name] = Path(run.folder, name)
    return files


@pytest.mark.fault("one bit flipped in a file of a run", "verify names the file")
def test_one_flipped_byte_in_a_file_of_any_kind_is_found(copy: RecordedRun) -> None:
    record_scores(copy, [{"benchmark": "generated", "checkpoint": "c", "all": 0.5}])
    check(copy)
    for kind, path in every_kind(copy).items():
        before = path.read_bytes()
        for place in (0, len(before) // 2, len(before) - 2):
            path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
            with pytest.raises((WinnowError, CheckFailed, ValueError)):
                check(copy)
                pytest.fail(f"{kind}: byte {place} of {len(before)}")
        path.write_bytes(before)
    check(copy)


def test_a_file_that_the_checksums_leave_out_is_found(copy: RecordedRun) -> None:
    path = Path(copy.folder, "checksums.json")
    digests = json.loads(path.read_text())
    for name in digests:
        path.write_text(json.dumps({key: digest for key, digest in digests.items() if key != name}))
        with pytest.raises(CheckFailed, match="does not list"):
            check(copy)


def test_building_again_does_not_accept_what_was_changed_or_lost(fates: RecordedRun, tmp_path: Path) -> None:
    folder = Path(fates.root).parent
    shutil.copytree(folder, tmp_path / "copy")
    root = tmp_path / "copy" / "root"
    run = open_run(str(root), fates.id)
    record_scores(run, [{"benchmark": "generated", "checkpoint": "c", "all": 0.5}])
    damages: list[tuple[str, Path, Path]] = [
        ("steps/refine", root / "steps" / run.steps[1].folder / "manifest.json", root / "steps" / run.steps[1].folder),
        ("lineage", Path(run.folder, "lineage.jsonl"), Path(run.folder, "lineage.jsonl")),
        ("evaluations", Path(run.folder, "evaluations.json"), Path(run.folder, "evaluations.json")),
    ]
    for name, path, mend in damages:
        before = path.read_bytes()
        # A manifest that does not add up is made again by the build itself (tests/faults/test_damage.py).
        changed = before if name == "steps/refine" else before.replace(b"demo", b"dome").replace(b"0.5", b"0.9")
        path.write_bytes(changed + b"\n")
        build(tmp_path / "copy", root)  # the mend of other files
        with pytest.raises((CheckFailed, WinnowError), match=name):
            check(run)
        shutil.rmtree(mend) if mend.is_dir() else mend.unlink()
        build(tmp_path / "copy", root)
        if name == "evaluations":  # a build cannot score checkpoints
            with pytest.raises(CheckFailed, match="winnow evaluate"):
                check(run)
            record_scores(run, [{"benchmark": "generated", "checkpoint": "c", "all": 0.5}])
        check(run)


def test_a_manifest_with_other_reasons_than_its_rows_is_found(copy: RecordedRun) -> None:
    step = copy.steps[1]
    path = Path(copy.root, "steps", step.folder, "manifest.json")
    path.write_text(path.read_text().replace("urls_only", "urns_only"))
    checksums = Path(copy.folder, "checksums.json")
    digests = json.loads(checksums.read_text())
    digests[f"steps/{step.folder}/manifest.json"] = storage.digest(str(path))
    checksums.write_text(json.dumps(digests))
    with pytest.raises(CheckFailed, match="reasons are not those of the rows dropped"):
        check(copy)


def test_a_file_that_no_manifest_names_is_found(copy: RecordedRun) -> None:
    for name in ("shards/part-99999.parquet", "shards/_SUCCESS", "notes.txt", "inner/a.json"):
        path = Path(copy.root, "steps", copy.steps[1].folder, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        with pytest.raises(CheckFailed, match="no manifest names this file"):
            check(copy)
        path.unlink()
    check(copy)


def test_scores_may_be_added_after_a_run_was_recorded(copy: RecordedRun) -> None:
    for score in (0.25, 0.5):
        record_scores(copy, [{"benchmark": "generated", "checkpoint": "c", "all": score}])
        check(copy)


def test_a_report_can_be_written_below_folders_called_as_products(tmp_path: Path) -> None:
    run = build(tmp_path / "hits" / "clean_ids", tmp_path / "hits" / "clean_ids" / "thinking")
    page = Path(write_report(run)).read_text(encoding="utf-8")
    verify(run)
    assert "generated" in page
