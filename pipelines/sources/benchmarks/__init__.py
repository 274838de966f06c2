"""Every evaluation set that Winnow reads by name, one per file: the list."""

from __future__ import annotations

from pipelines.sources.benchmarks.aime import AIME
from pipelines.sources.benchmarks.bbh import BBH
from pipelines.sources.benchmarks.benchmark import Benchmark
from pipelines.sources.benchmarks.competition_math import MATH
from pipelines.sources.benchmarks.decon import DECON
from pipelines.sources.benchmarks.drop import DROP
from pipelines.sources.benchmarks.generated import GENERATED
from pipelines.sources.benchmarks.gsm8k import GSM8K
from pipelines.sources.benchmarks.hellaswag import HELLASWAG
from pipelines.sources.benchmarks.humaneval import HUMANEVAL
from pipelines.sources.benchmarks.items import ITEMS
from pipelines.sources.benchmarks.llm_adapters import ARC_CHALLENGE, ARC_EASY, BOOLQ, OPENBOOKQA, PIQA, SIQA, WINOGRANDE
from pipelines.sources.benchmarks.mmlu import MMLU
from pipelines.sources.benchmarks.rephrased import REPHRASED_HUMANEVAL, REPHRASED_MMLU

_ALL: tuple[Benchmark, ...] = (
    GENERATED,
    ITEMS,
    AIME,
    ARC_CHALLENGE,
    ARC_EASY,
    BBH,
    BOOLQ,
    DECON,
    DROP,
    GSM8K,
    HELLASWAG,
    HUMANEVAL,
    MATH,
    MMLU,
    OPENBOOKQA,
    PIQA,
    REPHRASED_HUMANEVAL,
    REPHRASED_MMLU,
    SIQA,
    WINOGRANDE,
)

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
"""A recipe's benchmark name -> the evaluation set."""

__all__ = ["BENCHMARKS", "Benchmark"]
