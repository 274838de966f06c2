"""Every evaluation set that Winnow reads by name, one per file: the list."""

from __future__ import annotations

from pipelines.sources.benchmarks.benchmark import Benchmark
from pipelines.sources.benchmarks.generated import GENERATED

_ALL: tuple[Benchmark, ...] = (GENERATED,)

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
"""A recipe's benchmark name -> the evaluation set."""

__all__ = ["BENCHMARKS", "Benchmark"]
