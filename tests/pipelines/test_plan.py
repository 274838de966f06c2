"""A plan counts the rows of small files, and estimates those of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines import plan as plans
from pipelines.recipe import Recipe, SourceSpec


def recipe_of(path: Path, rows: int | None = None) -> Recipe:
    columns = {"instruction": "q", "response": "a"}
    source = SourceSpec(name="mine", path=str(path), columns=columns, condition="direct", rows=rows)
    return Recipe(name="r", sources=(source,))


def write(path: Path, rows: int) -> Path:
    path.write_text("".join(json.dumps({"q": f"question {row}", "a": "x"}) + "\n" for row in range(rows)))
    return path


@pytest.mark.parametrize(("rows", "most", "planned"), [(1, None, 1), (8, None, 8), (500, None, 500), (500, 20, 20)])
def test_rows_of_small_files_are_counted(tmp_path: Path, rows: int, most: int | None, planned: int) -> None:
    assert plans.plan(recipe_of(write(tmp_path / "mine.jsonl", rows), most)).rows == planned


def test_rows_of_larger_files_are_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "mine.jsonl", 5000)
    monkeypatch.setattr(plans, "MAX_COUNTED_BYTES", 1000)
    assert plans.plan(recipe_of(path)).rows > 0


def test_a_source_with_rows_is_priced_for_these_rows(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"q": f"{row} " + "q" * 3000, "a": "a" * 3000}) + "\n" for row in range(2000)))
    few, whole = (plans.plan(recipe_of(path, rows)) for rows in (50, 2000))
    assert few.rows <= 50 and few.text_bytes < whole.text_bytes / 20
    assert few.drawn_tokens_per_epoch < whole.drawn_tokens_per_epoch / 20


def test_many_small_files_are_dearer_than_one_with_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    whole = write(tmp_path / "mine.jsonl", 3000)
    lines = whole.read_text().splitlines(keepends=True)
    for at in range(50):
        (tmp_path / "many" / f"{at}.jsonl").write_text("".join(lines[at * 60 : at * 60 + 60]))
    one, many = (plans.plan(recipe_of(path)) for path in (whole, tmp_path / "many" / "*.jsonl"))
    assert one.text_bytes == many.text_bytes and many.core_hours > one.core_hours


def test_the_range_of_a_price_holds_the_price(tmp_path: Path) -> None:
    planned = plans.plan(recipe_of(write(tmp_path / "mine.jsonl", 3000)))
    for cost in (*planned.steps, planned):
        low, high = cost.core_hours_range
        assert low <= cost.core_hours <= high
