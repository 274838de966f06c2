"""Which files are read to score a benchmark, and which for the examples in its prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.benchmarks import benchmark_to_score, benchmarks_to_score
from pipelines.benchmarks import BENCHMARKS
from pipelines.errors import InputError
from training.evaluation.evaluate import How


def test_without_a_path_the_published_addresses_are_read() -> None:
    for name in ("arc_challenge", "winogrande", "boolq", "hellaswag"):
        benchmark = benchmark_to_score(name, None, How())
        assert benchmark.spec.paths == BENCHMARKS[name].path
        assert benchmark.shots == BENCHMARKS[name].shots
    # The layout that a corpus is checked against does not have the answers apart.
    assert benchmark_to_score("drop", None, How()).spec.paths == BENCHMARKS["drop"].scored


def test_examples_are_read_only_where_the_prompt_has_some_and_the_files_have_none() -> None:
    assert benchmark_to_score("boolq", None, How(shots=0)).shots == ()
    assert benchmark_to_score("mmlu", None, How(), paths=("mmlu/*/*.csv",)).shots == ()
    assert benchmark_to_score("mmlu", None, How(), shots=("dev.csv",)).shots == ("dev.csv",)
    assert benchmark_to_score("gsm8k", None, How()).shots == ()


def test_missing_examples_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "arc_easy_test.json"
    file.write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match=r"benchmark arc_easy: .*none\.json.*--shots-path.*--shots 0"):
        benchmarks_to_score(("arc_easy",), "checkpoint", None, How(), (str(file),), (str(tmp_path / "none.json"),))
