"""What is kept of a row that cannot be read."""

from __future__ import annotations

from pathlib import Path

from pipelines.formats.faults import MAX_BROKEN_BYTES, broken_text
from tests.pipelines.formats.files import rows_of


def test_the_beginning_of_a_bad_row_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{" + "x" * (2 * MAX_BROKEN_BYTES))
    (row,) = rows_of(tmp_path / "a.jsonl")
    assert row["fault"] == "broken_json" and row["broken"] == "{" + "x" * (MAX_BROKEN_BYTES - 1)


def test_invalid_bytes_of_a_bad_row_are_replaced() -> None:
    assert broken_text(b"a\xffb") == "a\ufffdb"
