"""`winnow scan` from the command line: its answer, the reuse of a finished scan, exit codes and error messages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.recipe import BenchmarkSpec
from pipelines.steps.benchmark_index import benchmark_items

WINNOW = Path(sys.executable).parent / "winnow"
ITEM = benchmark_items(BenchmarkSpec(name="generated", rows=60)).to_pylist()[17]


@pytest.fixture(scope="module")
def corpus(server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with ten rows, one of which holds an item; commands report to the tests' server."""
    folder = tmp_path_factory.mktemp("scan")
    rows = [{"q": f"Describe page {n} of a book on gardens.", "a": f"Page {n}."} for n in range(9)]
    rows.insert(4, {"q": f"Question: {ITEM['question']}", "a": ITEM["answer"]})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "odd.jsonl").write_text(json.dumps({"x": "A page on roses.", "y": "Another page."}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_HOME", "PREFECT_API_URL"):
            patch.setenv(name, server[name])
        yield folder


def scan(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [WINNOW, "scan", *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_a_scan_answers_in_json_is_reused_and_fails_a_check(corpus: Path) -> None:
    words = ("rows.jsonl", "--benchmarks", "generated=60", "--columns", "instruction=q,response=a", "--engine", "local")
    first: dict[str, Any] = json.loads(scan(corpus, *words, "--workers", "1", "--json").stdout)
    assert first["benchmarks"] == [{"benchmark": "generated", "items": 60, "contaminated": 1, "rows": 1}]
    assert first["worst"][0]["row"] == "corpus/rows/4" and first["worst"][0]["item"] == ITEM["id"]
    assert first["rows_in"] == 10 == first["rows_clean"] + sum(first["flagged"].values())
    assert all(Path(path).is_file() for kind in ("hits", "flagged_rows", "clean_ids") for path in first[kind])
    assert ITEM["id"] in Path(first["report"]).read_text(encoding="utf-8")

    again = scan(corpus, *words, "--check", code=1)
    assert again.stderr.count("reused") == 3 and "error: rows that contain items of evaluation sets: 1" in again.stderr
    assert (
        "columns: instruction is 'q', response is 'a'" in again.stderr
        and f"row corpus/rows/4 contains {ITEM['id']}" in again.stdout
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("odd.jsonl", "-b", "generated=60"), "columns: x, y"),
        (("rows.jsonl", "-b", "generated=60", "--columns", "text=body"), "body"),
        (("none.jsonl", "-b", "generated=60"), "none.jsonl: no such file"),
        (("rows.jsonl", "-b", "gsm8=rows.jsonl"), "did you mean 'gsm8k'?"),
        (("rows.jsonl", "-b", "generated=60", "--columns", "text=q", "--rule", "gpt4"), "did you mean 'gpt3'?"),
        (("rows.jsonl", "-b", "generated=60", "--columns", "text=q", "--engine", "raye"), "did you mean 'ray'?"),
    ],
    ids=["no column guessed", "no such column", "no such file", "no such benchmark", "no such rule", "no such engine"],
)
def test_a_mistake_exits_with_2_and_names_the_fix(corpus: Path, words: tuple[str, ...], message: str) -> None:
    assert message in scan(corpus, *words, code=2).stderr
