"""Every evaluation set that Winnow reads by name, one per file: the list."""

from __future__ import annotations

from pipelines.sources.benchmarks.benchmark import Benchmark

_ALL: tuple[Benchmark, ...] = ()

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
"""A recipe's benchmark name -> the evaluation set."""

__all__ = ["BENCHMARKS", "Benchmark"]
